"""Runs the jobs of a sweep: one after the other from this process, or through one of Hydra's launchers."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.launchers import LOCAL, in_one_line, open_launcher
from bbrl_exp.config.side_by_side import SIDE_BY_SIDE
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.errors import ConfigurationError, WorkerError
from bbrl_exp.processes.parent import without_current_folder
from bbrl_exp.runs.console import Terminal
from bbrl_exp.runs.ending import JobEnding
from bbrl_exp.runs.stop import CAUGHT, STOPPED_BY
from bbrl_exp.sweeps.jobs import Job
from bbrl_exp.sweeps.stacks import Plan, plan
from bbrl_exp.sweeps.stopping import OrderlyStop, SweepStoppedError
from bbrl_exp.sweeps.task import SweepTask

_OF_A_CLUSTER = ("submitit_slurm", "submitit_local")
_OF_WORKERS = ("joblib", "ray")
_OF_SLURM = ("sbatch", "srun")


@dataclass
class Launched:
    """What is known of the jobs that were launched.

    Attributes:
        endings: how the process of each job ended, by the name of its folder, as far as the launcher reports it.
        exit_code: 128+n where signal n stopped the sweep, else 0.
        lost: why nothing is known of a job's process, by the name of its folder.
        outlives_sweep: whether jobs run on without the sweep, which was stopped.
        stacks: the names of the folders of the jobs that ran side by side.
    """

    endings: dict[str, JobEnding] = field(default_factory=dict)
    exit_code: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    outlives_sweep: bool = False
    stacks: list[tuple[str, ...]] = field(default_factory=list)


def check_launcher(config: SweepConfig) -> None:
    """Refuses a launcher that cannot work on this machine.

    Raises:
        ConfigurationError: it is Slurm's, and Slurm's commands are not installed.
    """
    missing = [name for name in _OF_SLURM if shutil.which(name) is None]
    if config.launcher == "submitit_slurm" and missing:
        raise ConfigurationError(
            f"key 'hydra/launcher' = 'submitit_slurm': {' and '.join(missing)} not found; must be started on a machine "
            "that submits jobs to Slurm"
        )


def launch(config: SweepConfig, jobs: Sequence[Job]) -> Launched:
    """Runs jobs that have no error through the launcher of the sweep's configuration, in the sweep's folder.

    Complete ones do not run; they only say which jobs are a stack.
    """
    name, folder, launched = config.launcher, config.folder, Launched()
    left = [job for job in jobs if job.is_runnable]
    try:
        with _stopping_signals():
            if name == LOCAL:
                _launch_here(left, folder, launched)
            elif name == SIDE_BY_SIDE:
                _launch_stacks(plan(jobs, config.jobs_per_stack), folder, launched)
            else:
                _launch_through_hydra(config, left, launched)
    except (KeyboardInterrupt, SweepStoppedError) as stopped:
        launched.outlives_sweep = name in _OF_A_CLUSTER
        if launched.outlives_sweep:
            Terminal().line("submitted jobs keep running; the table shows their state now")
        launched.exit_code = stopped.code if isinstance(stopped, SweepStoppedError) else STOPPED_BY + signal.SIGINT
    except Exception as error:
        complaint = f"the launcher gave up: {in_one_line(error)}"
        Terminal().line(complaint)
        launched.lost |= {job.folder: complaint for job in left if job.folder not in launched.endings}
    return launched


def _launch_here(jobs: Sequence[Job], folder: Path, launched: Launched) -> None:
    """One job after the other, each handed to its process as it was checked."""
    task = SweepTask.of_this_process(outlives_it=False)
    for job in jobs:
        assert isinstance(job.run, CheckedRun)
        launched.endings[job.folder] = task.run(job.run, folder / job.folder)


def _launch_stacks(planned: Plan, folder: Path, launched: Launched) -> None:
    """One stack after the other, and then the jobs that cannot be stacked."""
    for line in planned.lines:
        Terminal().line(line)
    task = SweepTask.of_this_process(outlives_it=False)
    for stack in planned.stacks:
        launched.stacks.append(tuple(job.folder for job in stack))
        runs = [job.run for job in stack if job.run is not None]
        endings = task.run_stack(runs, [folder / job.folder for job in stack])
        launched.endings |= dict(zip((job.folder for job in stack), endings, strict=True))
    _launch_here([job for job, _ in planned.alone], folder, launched)


def _launch_through_hydra(config: SweepConfig, jobs: Sequence[Job], launched: Launched) -> None:
    """All jobs at once; their configurations are composed and checked where they run."""
    name, folder = config.launcher, config.folder
    stop = OrderlyStop(folder, [folder / job.folder for job in jobs]) if name in _OF_WORKERS else None
    task = SweepTask.of_this_process(outlives_it=name in _OF_A_CLUSTER, mark=stop.mark if stop else None)
    launch_all = open_launcher(config.config, task)
    results_of_lost = lost_jobs_as_results(name, stop.take_signals if stop else None)
    with stop or contextlib.nullcontext(), results_of_lost, without_current_folder():
        results = launch_all([(job.overrides, job.folder) for job in jobs])
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, WorkerError):
            launched.lost[job.folder] = str(result)
        elif isinstance(result, JobEnding):
            launched.endings[job.folder] = result
        else:  # submitit raises in a job that it does not queue again
            launched.endings[job.folder] = JobEnding(1, in_one_line(result))


@contextlib.contextmanager
def lost_jobs_as_results(launcher: str, when_waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """While the block runs, the error of a lost job takes the place of its result.

    Ray's and submitit's launchers give up at the first job whose worker, machine or place in a queue has gone. The
    others run on, and nobody would wait for them.

    Args:
        launcher: its name in Hydra's group ``hydra/launcher``.
        when_waiting: called before Ray is waited for, which takes the handlers of signals for itself when it starts.
    """
    owner: Any
    if launcher == "ray":
        import ray

        owner, name, as_list = ray, "get", False
    elif launcher.startswith("submitit"):
        import submitit

        owner, name, as_list = submitit.Job, "results", True
    else:
        yield
        return
    get = getattr(owner, name)

    def result_or_error(*arguments: Any) -> Any:
        if when_waiting is not None:
            when_waiting()
        try:
            return get(*arguments)
        except Exception as error:
            return [error] if as_list else error

    setattr(owner, name, result_or_error)
    try:
        yield
    finally:
        setattr(owner, name, get)


@contextlib.contextmanager
def _stopping_signals() -> Iterator[None]:
    """While the block runs, the signals that ask to stop raise."""
    before = {number: signal.signal(number, _stop) for number in CAUGHT if not _interrupts(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupts(number: int) -> bool:
    """Whether a signal raises KeyboardInterrupt by itself; in what a script starts with ``&`` SIGINT is ignored."""
    return number == signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SweepStoppedError(STOPPED_BY + number)
