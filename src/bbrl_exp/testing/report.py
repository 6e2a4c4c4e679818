"""What a check of a memory found, as data and as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bbrl_exp.errors import described, is_of_user_code
from bbrl_exp.testing.differences import Difference
from bbrl_exp.text import aligned_table

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        claim: what it is a part of: ``sequences``, ``resets``, ``stored states`` or ``agreement``.
        rule: what must hold.
        status: ``passed``, ``failed`` or ``skipped``.
        difference: the largest difference between two values that should be the same, relative to 1 + |value|; None
            where nothing was compared.
        tolerance: the largest difference that passes.
        where: what differs, at which t and in which environment; of a skipped check, why it was skipped.
    """

    claim: str
    rule: str
    status: Status
    difference: float | None = None
    tolerance: float | None = None
    where: str = ""


def checked(claim: str, rule: str, compare: Callable[[], Difference | str]) -> Check:
    """Does one check.

    Args:
        claim: see :class:`Check`.
        rule: see :class:`Check`.
        compare: gives the difference, or says why there is nothing to compare. What it raises is a failure.
    """
    try:
        found = compare()
    except BaseException as error:
        if not is_of_user_code(error):
            raise
        return Check(claim, rule, "failed", where=f"it fails: {described(error)}")
    if isinstance(found, str):
        return Check(claim, rule, "skipped", where=found)
    status: Status = "failed" if found.where else "passed"
    return Check(claim, rule, status, found.largest, found.tolerance, found.where)


@dataclass(frozen=True)
class MemoryReport:
    """What was found of an agent.

    Attributes:
        subject: the agent and its environment.
        variables: the variables of the workspace that hold the memory.
        setting: what was played.
        checks: in the order of the table; empty for an agent without a memory.
    """

    subject: str
    variables: tuple[str, ...]
    setting: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def passed(self) -> bool:
        """Whether none failed."""
        return not self.failed

    def __str__(self) -> str:
        """The table, and below it where each difference is."""
        if not self.checks:
            return f"{self.subject}: no memory, nothing to check"
        memory = ", ".join(self.variables) or "not in the workspace"
        lines = [f"{self.subject}: memory {memory}", self.setting, ""]
        lines += aligned_table(
            ("claim", "rule", "result", "difference", "tolerance"),
            [
                (check.claim, check.rule, check.status, _number(check.difference), _number(check.tolerance))
                for check in self.checks
            ],
        )
        for status in ("skipped", "failed"):
            chosen = [check for check in self.checks if check.status == status]
            lines += ["", *(f"{status}: {check.rule}: {check.where}" for check in chosen)] if chosen else []
        n_done = sum(check.status != "skipped" for check in self.checks)
        lines += ["", f"{n_done - len(self.failed)} of {n_done} checks passed"]
        return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
