"""How a job's process ended, and the record of one that could not write it itself."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bbrl_exp.config.identity import hparams_of_overrides
from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.layout import LOG
from bbrl_exp.records.provenance import command, record_end
from bbrl_exp.records.summary import Status, Summary, read_summary
from bbrl_exp.runs.resume import has_begun
from bbrl_exp.runs.stop import CAUGHT

_KILLED_FOR_MEMORY = "perhaps for lack of memory"


@dataclass(frozen=True)
class JobEnding:
    """How the process of a job ended.

    Attributes:
        code: its exit code; negative: the number of the signal that killed it.
        refusal: why the job did not start, None where it did.
    """

    code: int
    refusal: str | None = None

    @property
    def was_asked_to_stop(self) -> bool:
        """Whether a signal that asks to stop came before the job could act on it."""
        return -self.code in CAUGHT

    @property
    def reason(self) -> str:
        """Why a job ended that said nothing itself."""
        if self.refusal is not None:
            return self.refusal
        if self.code >= 0:
            return f"its process ended with exit code {self.code}"
        if self.was_asked_to_stop:
            return f"stopped by {signal.Signals(-self.code).name}"
        hint = f", {_KILLED_FOR_MEMORY}" if self.code == -signal.SIGKILL else ""
        return f"its process was killed by {signal.Signals(-self.code).name}{hint}"


def record_death(folder: Path, ending: JobEnding, overrides: Sequence[str]) -> None:
    """Completes the summary of a job whose process ended without doing so; leaves every other as it is.

    Args:
        folder: of the job; not in use by another process.
        ending: of its process.
        overrides: of the job.
    """
    from bbrl_exp.tracking.hparams import mark_failed

    summary = read_summary(folder)
    if ending.refusal is not None or (summary is None and ending.was_asked_to_stop):
        return
    if summary is None:
        record_refusal(folder, ending.reason, overrides, None)
    elif summary.get("status") == "running":
        status: Status = "interrupted" if ending.was_asked_to_stop else "failed"
        replace(Summary.of(summary), status=status, error=ending.reason).write(folder)
        record_end(folder, status)
        _say(folder, ending.reason)
        if status == "failed":
            mark_failed(folder, summary.get("env_steps", 0), None)


def record_refusal(folder: Path, error: str, overrides: Sequence[str], config_hash: str | None) -> None:
    """Leaves the reason of a job that could not start in its folder, unless that folder holds a run.

    Args:
        folder: of the job.
        error: the reason.
        overrides: of the job.
        config_hash: of its configuration; None where it has none.
    """
    from bbrl_exp.tracking.hparams import mark_failed

    if has_begun(read_summary(folder)):
        return
    folder.mkdir(parents=True, exist_ok=True)
    Summary(
        status="failed",
        agent=None,
        env=None,
        env_id=None,
        seed=None,
        batch_size=None,
        error=error,
        command=command(),
        overrides=tuple(overrides),
        config_hash=config_hash,
    ).write(folder)
    _say(folder, error)
    mark_failed(folder, 0, hparams_of_overrides(overrides))


def _say(folder: Path, error: str) -> None:
    try:
        with (folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"error: {error}\n")
    except OSError as caught:
        raise BbrlExpError(f"cannot write '{folder / LOG}': {caught.strerror}") from caught
