"""Hands jobs to Hydra's launchers."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from bbrl_exp.config.compose import Composer, quoted
from bbrl_exp.config.hydra_node import launcher_name
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.console import Terminal
from bbrl_exp.runs.ending import JobEnding
from bbrl_exp.runs.stop import CAUGHT, STOPPED_BY
from bbrl_exp.sweeps.jobs import Job
from bbrl_exp.sweeps.patience import patience
from bbrl_exp.sweeps.stopping import OrderlyStop, SweepStoppedError
from bbrl_exp.sweeps.task import SweepTask

IN_ORDER = "basic"
_OF_A_CLUSTER = ("submitit_slurm", "submitit_local")
_OF_WORKERS = ("joblib", "ray")
_OF_SLURM = ("sbatch", "srun")


@dataclass(frozen=True)
class Launched:
    """What a launcher leaves.

    Attributes:
        endings: how the process of each job ended, by the name of its folder, as far as the launcher tells.
        exit_code: 128+n where signal n stopped the sweep, else 0.
        lost: why nothing is known of a job's process, by the name of its folder.
        goes_on: whether jobs go on without the sweep, which was stopped.
    """

    endings: Mapping[str, JobEnding] = field(default_factory=dict)
    exit_code: int = 0
    lost: Mapping[str, str] = field(default_factory=dict)
    goes_on: bool = False


def check_launcher(master: DictConfig) -> None:
    """Refuses a launcher that cannot work on this machine.

    Args:
        master: the configuration of the sweep.

    Raises:
        ConfigurationError: it is Slurm's, and Slurm's commands are not there.
    """
    missing = [name for name in _OF_SLURM if shutil.which(name) is None]
    if launcher_name(master) == "submitit_slurm" and missing:
        raise ConfigurationError(
            f"key 'hydra/launcher' = 'submitit_slurm': {' and '.join(missing)} not found; must be started on a machine "
            "that submits jobs to Slurm"
        )


def launch(composer: Composer, master: DictConfig, jobs: Sequence[Job]) -> Launched:
    """Runs jobs through the launcher of the sweep's configuration.

    Args:
        composer: of their configurations.
        master: the configuration of the sweep.
        jobs: those to run.
    """
    name = launcher_name(master)
    callbacks = Callbacks(master)
    context = HydraContext(config_loader=composer.hydra.config_loader, callbacks=callbacks)
    folder = Path(master.hydra.sweep.dir)
    stop = OrderlyStop(folder, [folder / job.folder for job in jobs]) if name in _OF_WORKERS else None
    task = SweepTask.of_this_process(outlives_it=name in _OF_A_CLUSTER, mark=stop.mark if stop else None)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=master)
    # One after the other, the results of those before need not be kept.
    batches = [[job] for job in jobs] if name == IN_ORDER else [list(jobs)]
    endings: dict[str, JobEnding] = {}
    lost: dict[str, str] = {}
    number = 0
    before = {number: signal.signal(number, _stop) for number in CAUGHT if not _interrupts(number)}
    try:
        for batch in batches:
            overrides = [[*job.overrides, f"hydra.sweep.subdir={quoted(job.folder)}"] for job in batch]
            with stop or contextlib.nullcontext(), patience(name, stop.heed if stop else None):
                results: Sequence[JobReturn | BaseException] = launcher.launch(overrides, initial_job_idx=number)
            for job, result in zip(batch, results, strict=True):
                if isinstance(result, JobReturn):
                    endings[job.folder] = _ending(result)
                else:
                    lost[job.folder] = f"the launcher lost it: {_in_one_line(result)}"
            number += len(batch)
    except (KeyboardInterrupt, SystemExit) as stopped:
        goes_on = name in _OF_A_CLUSTER
        if goes_on:
            Terminal().line("jobs that were submitted go on; the table tells how they stand now")
        exit_code = STOPPED_BY + signal.SIGINT if isinstance(stopped, KeyboardInterrupt) else int(stopped.code or 1)
        return Launched(endings, exit_code, lost, goes_on)
    except Exception as error:
        complaint = f"the launcher gave up: {_in_one_line(error)}"
        Terminal().line(complaint)
        return Launched(endings, lost={job.folder: complaint for job in jobs if job.folder not in endings} | lost)
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
    return Launched(endings, lost=lost)


def _ending(result: JobReturn) -> JobEnding:
    value = result._return_value  # the property raises what failed, and prints it
    if isinstance(value, JobEnding):
        return value
    return JobEnding(1, _in_one_line(value))


def _in_one_line(error: BaseException) -> str:
    """What an error says first; some go on with the whole output of a job."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _interrupts(number: int) -> bool:
    """Whether a signal raises KeyboardInterrupt by itself; in what a script starts with ``&`` SIGINT is ignored."""
    return number == signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SweepStoppedError(STOPPED_BY + number)
