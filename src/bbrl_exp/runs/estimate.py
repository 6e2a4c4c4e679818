"""About how fast a run will be: measured for a few seconds in a temporary folder."""

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
MEASURED_SECONDS = 4.0


@dataclass(frozen=True)
class Estimate:
    """What was measured.

    Attributes:
        steps_per_second: environment steps per second in the second half, updates and tracking included, start-up and
            evaluation left out.
        bytes_per_step: of files, per environment step.
    """

    steps_per_second: float
    bytes_per_step: float


@dataclass(frozen=True)
class MeasurementFailure:
    """The run failed while it was measured, as it would without a measurement; ``error`` says why, in one line."""

    error: str


def measure(run: CheckedRun, host: JobHost) -> Estimate | MeasurementFailure | None:
    """Runs a configuration for ``MEASURED_SECONDS``; None where it did not get to do a step.

    Args:
        run: checked; its own folder is not touched.
        host: forks the process that is measured.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "measured"
        folder.mkdir()
        asked_first, begun = time.monotonic(), 0.0

        def is_wanted() -> bool:
            nonlocal begun
            now = time.monotonic()
            if not begun and (folder / METRICS).exists():
                begun = now
            return now - begun < MEASURED_SECONDS if begun else now - asked_first < _SECONDS_TO_BEGIN

        host.run([_to_measure(run)], os.getcwd(), [folder], is_wanted)
        return _found_in(folder)


def _to_measure(run: CheckedRun) -> CheckedRun:
    """The run without evaluations and without an early end, with its speed in ``metrics.csv``."""
    no_evaluations = {**run.root.eval, "every": 0, "final_episodes": 0}
    root = replace(run.root, dry_run=False, resume="auto", pause_after=None, eval=no_evaluations, stop_when=None)
    return replace(run, root=root, tracking=run.tracking.to_measure())


def _found_in(folder: Path) -> Estimate | MeasurementFailure | None:
    summary = read_summary(folder) or {}
    if summary.get("status") in ("failed", "diverged"):
        return MeasurementFailure(str(summary.get("error")))
    env_steps = summary.get("env_steps", 0)
    if not env_steps or summary.get("status") not in ("interrupted", "completed"):
        return None
    speeds = [point.value for point in read_points(folder, SPEED)]
    speed = statistics.median(speeds[int(_LAST * len(speeds)) :]) if speeds else summary.get("steps_per_second")
    checkpoints = folder / CHECKPOINTS
    files = (file for file in folder.rglob("*") if file.is_file() and checkpoints not in file.parents)
    n_bytes = sum(file.stat().st_size for file in files)
    return Estimate(speed, n_bytes / env_steps) if speed else None
