"""About how fast a run will be, from a trial of a few seconds in a folder that is thrown away."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.records.layout import CHECKPOINTS, METRICS
from bbrl_exp.records.metrics import SPEED, read_points
from bbrl_exp.records.summary import read_summary
from bbrl_exp.runs.job_host import JobHost

_LAST = 0.5
_SECONDS_TO_BEGIN = 30.0
TRIAL_SECONDS = 4.0


@dataclass(frozen=True)
class Estimate:
    """What a trial told.

    Attributes:
        steps_per_second: environment steps a second of its second half, updates and tracking included, start-up and
            evaluation left out.
        bytes_per_step: of files, an environment step.
    """

    steps_per_second: float
    bytes_per_step: float


@dataclass(frozen=True)
class TrialFailure:
    """A trial that failed, as the run itself would.

    Attributes:
        error: why, in a line.
    """

    error: str


class Trials:
    """Tries configurations out for ``TRIAL_SECONDS`` each, one after the other, each in a process of its own."""

    def __init__(self) -> None:
        self._host: JobHost | None = None

    def __call__(self, run: CheckedRun) -> Estimate | TrialFailure | None:
        """What a trial of the run shows; None where it did not get to do a step.

        Args:
            run: checked; its own folder is not touched.
        """
        if self._host is None:
            self._host = JobHost()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "trial"
            folder.mkdir()
            self._host.run(_for_trial(run), os.getcwd(), folder, _TrialTime(folder))
            return _told_by(folder)


class _TrialTime:
    """Whether a trial is to go on: for its seconds since its folder tells of steps, and not for ever before that."""

    def __init__(self, folder: Path) -> None:
        self._metrics = folder / METRICS
        self._asked_first = time.monotonic()
        self._begun: float | None = None

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._begun is None and self._metrics.exists():
            self._begun = now
        if self._begun is None:
            return now - self._asked_first < _SECONDS_TO_BEGIN
        return now - self._begun < TRIAL_SECONDS


def _for_trial(run: CheckedRun) -> CheckedRun:
    """The run without evaluations, with its speed in ``metrics.csv``."""
    tracking = replace(
        run.tracking,
        enabled=True,
        csv=True,
        tensorboard=run.tracking.enabled and run.tracking.tensorboard,
        speed_every=1,
    )
    no_evaluations = {**run.root.eval, "every": 0, "final_episodes": 0}
    return replace(run, root=replace(run.root, dry_run=False, resume="auto", eval=no_evaluations), tracking=tracking)


def _told_by(folder: Path) -> Estimate | TrialFailure | None:
    summary = read_summary(folder) or {}
    if summary.get("status") in ("failed", "diverged"):
        return TrialFailure(str(summary.get("error")))
    env_steps = summary.get("env_steps", 0)
    if not env_steps or summary.get("status") not in ("interrupted", "completed"):
        return None
    speeds = [point.value for point in read_points(folder, SPEED)]
    speed = statistics.median(speeds[int(_LAST * len(speeds)) :]) if speeds else summary.get("steps_per_second")
    checkpoints = folder / CHECKPOINTS
    files = (file for file in folder.rglob("*") if file.is_file() and checkpoints not in file.parents)
    n_bytes = sum(file.stat().st_size for file in files)
    return Estimate(speed, n_bytes / env_steps) if speed else None
