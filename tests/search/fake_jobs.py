"""Jobs that are not run: what comes of each is a function of its overrides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from bbrl_exp.records.layout import METRICS
from bbrl_exp.records.metrics import EVALUATIONS, MetricsFile
from bbrl_exp.sweeps.batches import JobResult
from bbrl_exp.sweeps.stopping import SweepStoppedError

Overrides = dict[str, str]


class FakeJobs:
    """Stands for the launcher.

    Args:
        folder: of the search.
        value: the mean return of a job of these overrides; None where it fails.

    Attributes:
        batches: what was handed over, batch by batch.
        stop_in: number of the batch in which a signal comes.
        interrupted: whether a job comes back interrupted.
        stops_at: environment steps at which a job is complete by ``stop_when``, beyond all for one that is not.
    """

    def __init__(self, folder: Path, value: Callable[[Overrides], float | None], total_steps: int = 1000) -> None:
        self.folder = folder
        self.batches: list[list[Overrides]] = []
        self.stop_in: int | None = None
        self.interrupted: Callable[[Overrides], bool] = lambda job: False
        self.stops_at: Callable[[Overrides], int] = lambda job: total_steps
        self._value, self._total_steps = value, total_steps

    def run(self, jobs: Sequence[Sequence[str]], constant: Sequence[str], folders: Sequence[str]) -> list[JobResult]:
        """Gives what comes of each job."""
        self.batches.append([dict(text.split("=", 1) for text in job) for job in jobs])  # type: ignore[misc]
        if self.stop_in == len(self.batches) - 1:
            raise SweepStoppedError(128 + 15)
        return [self._result(list(job), self.folder / folder) for job, folder in zip(jobs, folders, strict=True)]

    def _result(self, job: list[str], folder: Path) -> JobResult:
        overrides: Overrides = dict(text.split("=", 1) for text in job)  # type: ignore[misc]
        pause = overrides.pop("pause_after", None)
        folder.mkdir(exist_ok=True)
        value = self._value(overrides)
        if value is None:
            return JobResult(tuple(job), folder, "failed", "it is a bad one", {})
        if self.interrupted(overrides):
            return JobResult(tuple(job), folder, "interrupted", "stopped by SIGTERM", {})
        steps = min(int(pause) if pause else self._total_steps, self.stops_at(overrides))
        pause = None if steps == self.stops_at(overrides) else pause
        # Runs get better by what they are worth, in proportion to the steps.
        (folder / METRICS).unlink(missing_ok=True)
        with contextlib.closing(MetricsFile(folder)) as metrics:
            for step in range(100, steps + 1, 100):
                metrics.scalars(step, {EVALUATIONS: value * step / self._total_steps})
        status = "paused" if pause else "completed"
        return JobResult(tuple(job), folder, status, None, {"eval_return_mean": None if pause else value})
