"""The workspace as an agent in another process sees it: rows are fetched when they are first read.

Between two calls anybody may have changed any row, so that what is held counts only once it has been fetched again;
what the agent itself writes is noted and goes back when the call ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import Workspace
from bbrl_exp.workspace.stepped import SteppedVariable
from bbrl_exp.workspace.storage import Variable, WholeVariable

Facts = tuple[int, torch.Size, torch.dtype]
Fetch = Callable[[str, int | None], None]


@dataclass(frozen=True, eq=False)
class Change:
    """What happened to one variable in a call.

    Attributes:
        name: the variable.
        is_new: whether what the variable held before is gone altogether.
        n_kept: number of first rows that are what they were, but for those of ``rewritten``.
        rewritten: times below ``n_kept`` that were written, with their rows.
        appended: the rows from ``n_kept`` on, ``[n, B, …]``.
    """

    name: str
    is_new: bool
    n_kept: int
    rewritten: Mapping[int, Tensor]
    appended: Tensor


class MirrorVariable(SteppedVariable):
    """A variable of which some rows stand elsewhere.

    Args:
        facts: number of rows that stand elsewhere; shape and dtype of a row.
        fetch: places row ``t``, or all of them for None, by :meth:`place`.
        is_new: whether it began in this call.
    """

    __slots__ = ("_fetch", "_fresh", "_held", "_n_before", "_rewritten", "is_new", "n_kept")

    def __init__(self, facts: Facts, fetch: Callable[[int | None], None], is_new: bool, capacity: int = 0) -> None:
        n_steps, shape, dtype = facts
        super().__init__(shape, dtype, torch.device("cpu"), max(capacity, n_steps))
        self._fetch = fetch
        self._held: set[int] = set()
        self.n_kept = 0
        self.begin(n_steps)
        self.is_new = is_new

    def begin(self, n_steps: int) -> None:
        """Begins a call: there are ``n_steps`` rows elsewhere, and none counts as known."""
        self._fresh: set[int] = set()
        self._rewritten: set[int] = set()
        self._held.update(range(self.n_kept, self.n_steps))
        if n_steps < self.n_steps:
            self.keep_first(n_steps)
        self.grow(n_steps)
        self.n_steps = self.n_kept = self._n_before = n_steps
        self.is_new = False

    def place(self, t: int, value: Tensor) -> None:
        """Puts row ``t`` as it is elsewhere; what was read of another one keeps its values."""
        if not self._is_elsewhere(t):
            return
        self._fresh.add(t)
        if t not in self._held:
            self._held.add(t)
            self._fill(t, value)
        elif not same_bits(self._rows(t, t + 1)[0], value):
            super().write(t, value)

    def change(self, name: str) -> Change | None:
        """What this call did; None if it did nothing."""
        if not self.is_new and not self._rewritten and self.n_kept == self._n_before == self.n_steps:
            return None
        rewritten = {t: self._rows(t, t + 1)[0] for t in sorted(self._rewritten)}
        return Change(name, self.is_new, self.n_kept, rewritten, self._rows(self.n_kept, self.n_steps))

    def read(self, t: int) -> Tensor:
        if self._is_elsewhere(t):
            self._fetch(t)
        return super().read(t)

    def full(self) -> Tensor:
        if any(map(self._is_elsewhere, range(self.n_kept))):
            self._fetch(None)
        return super().full()

    def write(self, t: int, value: Tensor) -> None:
        super().write(t, value)
        if t < self.n_kept:
            self._note(t)

    def numpy_row(self, t: int) -> NDArray[Any]:
        row = super().numpy_row(t)
        # The last row is taken off until it is committed, and counts as a new one.
        self.n_kept = min(self.n_kept, self.n_steps)
        if t < self.n_kept:
            self._note(t)
        return row

    def keep_first(self, n: int) -> None:
        if n < self.n_steps:
            super().keep_first(n)
            self.n_kept = min(self.n_kept, n)
            for times in (self._held, self._fresh, self._rewritten):
                times.intersection_update(range(n))

    def keep_last(self, n: int) -> None:
        if n != self.n_steps:
            self.full()
            super().keep_last(n)
            self.n_kept = 0
            for times in (self._held, self._fresh, self._rewritten):
                times.clear()

    def _is_elsewhere(self, t: int) -> bool:
        return 0 <= t < self.n_kept and t not in self._fresh and t not in self._rewritten

    def _note(self, t: int) -> None:
        self._held.add(t)
        self._rewritten.add(t)

    def _rows(self, first: int, stop: int) -> Tensor:
        """Rows for use at once: they are not protected from later writes."""
        if not self._apart or first == stop:
            return self._buffer[first:stop]
        return torch.stack([self._apart.get(t, self._buffer[t]).detach() for t in range(first, stop)])


class MirrorWorkspace(Workspace):
    """A workspace whose rows stand in another process.

    Args:
        fetch: places a row of a variable, or all of them, by :meth:`place`.
    """

    def __init__(self, fetch: Fetch) -> None:
        super().__init__()
        self._fetch = fetch
        self._before: Mapping[str, Facts] = {}

    def begin(self, variables: Mapping[str, Facts]) -> None:
        """Begins a call on a workspace of these variables."""
        held = self._variables
        self._before = variables
        self._variables = {}
        for name, facts in variables.items():
            known = held.get(name)
            if isinstance(known, MirrorVariable) and (known.shape, known.dtype) == facts[1:]:
                known.begin(facts[0])
                self._variables[name] = known
            else:
                self._put(name, self._mirrored(name, facts, is_new=False))
        if held.keys() - variables.keys():
            self._layout += 1

    def place(self, name: str, t: int, rows: Tensor) -> None:
        """Puts rows ``t``, ``t + 1``, … of a variable, ``[n, B, …]``, as they are elsewhere."""
        variable = self._variables[name]
        assert isinstance(variable, MirrorVariable)
        for offset, row in enumerate(rows):
            variable.place(t + offset, row)

    def changes(self) -> tuple[list[Change], list[str]]:
        """What this call did to each variable that there is now, and the names of those that it removed."""
        changes = []
        for name, variable in self._variables.items():
            assert isinstance(variable, MirrorVariable)
            change = variable.change(name)
            if change is not None:
                changes.append(change)
        return changes, [name for name in self._before if name not in self._variables]

    def n_rows(self) -> int:
        """Number of rows of all variables: it grows while an agent gets on."""
        return sum(variable.n_steps for variable in list(self._variables.values()))

    def _stepped(self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> SteppedVariable:
        variable = self._variables.get(name)
        if variable is None:
            self._refuse_new_variable(name)
            if device.type != "cpu":
                raise WorkspaceError(f"an agent in another process writes rows on the cpu, found {device}")
            variable = self._mirrored(name, (0, shape, dtype), is_new=True)
            self._put(name, variable)
        assert isinstance(variable, MirrorVariable)
        return variable

    def _put(self, name: str, variable: Variable) -> None:
        if isinstance(variable, WholeVariable):
            whole = variable.tensor
            variable = self._mirrored(name, (0, variable.shape, variable.dtype), is_new=True)
            variable.extend(whole)
        super()._put(name, variable)

    def _mirrored(self, name: str, facts: Facts, is_new: bool) -> MirrorVariable:
        return MirrorVariable(facts, lambda t: self._fetch(name, t), is_new, self._reserved)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of equal shape and dtype hold the same bits; a NaN equals itself, and 0 is not -0."""
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
