"""About how fast a run will be, from a trial of a few seconds in a folder that is thrown away."""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from bbrl_exp.config.carried import packed
from bbrl_exp.records.layout import CHECKPOINTS, METRICS
from bbrl_exp.records.metrics import SPEED, read_points
from bbrl_exp.records.summary import read_summary
from bbrl_exp.runs.host import JobHost

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

    def __call__(self, config: DictConfig) -> Estimate | TrialFailure | None:
        """What a trial of the run tells; None where it did not get to do a step.

        Args:
            config: composed, with its ``hydra`` node; the run's own folder is not touched.
        """
        if self._host is None:
            self._host = JobHost()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "trial"
            folder.mkdir()
            self._host.run(packed(_for_trial(config, folder)), os.getcwd(), folder, _TrialTime(folder))
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


def _for_trial(config: DictConfig, folder: Path) -> DictConfig:
    config = copy.deepcopy(config)
    OmegaConf.set_readonly(config.hydra, False)
    with open_dict(config):
        config.dry_run = False
        config.resume = "auto"
        config.eval.every, config.eval.final_episodes = 0, 0
        config.tracking.speed_every = 1
        config.tracking.tensorboard = config.tracking.tensorboard and config.tracking.enabled
        config.tracking.enabled = config.tracking.csv = True
        config.hydra.runtime.output_dir = str(folder)
    return config


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
