"""What a launcher runs for each job, wherever that is: it hands the job to its own process, and waits for it."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil
from omegaconf import DictConfig

from bbrl_exp.config.carried import CarriedJob
from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.project import VARIABLE as PROJECT_VARIABLE
from bbrl_exp.errors import BbrlExpError, WorkerError
from bbrl_exp.processes.parent import forget_safe_path
from bbrl_exp.records.claim import is_in_use
from bbrl_exp.records.invocation import VARIABLES
from bbrl_exp.runs.ending import JobEnding, record_death
from bbrl_exp.runs.job_host import JobHost
from bbrl_exp.runs.stop import CAUGHT, STOPPED_BY

_CARRIED = (*VARIABLES, PROJECT_VARIABLE)
_OF_SUBMITIT = "SUBMITIT_EXECUTOR"
_SECONDS_FOR_THE_SCHEDULER = 600
_SECONDS_TO_SAVE = 30.0
_SECONDS_OF_THE_END = 120.0
_SECONDS_BETWEEN_LOOKS = 0.1


def environment_to_carry() -> tuple[tuple[str, str], ...]:
    """What a job must find in the environment of its process; folders are absolute."""
    found = {name: os.environ[name] for name in _CARRIED if name in os.environ}
    if "PYTHONPATH" in found:
        folders = (str(Path(folder).absolute()) for folder in found["PYTHONPATH"].split(os.pathsep) if folder)
        found["PYTHONPATH"] = os.pathsep.join(folders)
    return tuple(found.items())


@dataclass(frozen=True)
class SweepTask:
    """What runs a job, also as the task function of Hydra's launchers.

    Attributes:
        directory: from which relative paths of the configuration count.
        environment: variables that a job must find.
        process: of the sweep, without which its jobs stop; None where they keep running.
        started: when that process was started, seconds since the epoch.
        machine: on which it runs.
        arguments: of the command that leads the sweep, for the records of its jobs.
        mark: a file that exists once the sweep is to stop; empty for none.
    """

    directory: str
    environment: tuple[tuple[str, str], ...] = field(default_factory=environment_to_carry)
    process: int | None = None
    started: float = 0.0
    machine: str = ""
    arguments: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))
    mark: str = ""

    @classmethod
    def of_this_process(cls, *, outlives_it: bool, mark: Path | None = None) -> SweepTask:
        """The task of a sweep that this process leads; jobs that outlive it, as those of a cluster, do not need it."""
        if outlives_it:
            return cls(os.getcwd())
        return cls(
            os.getcwd(),
            process=os.getpid(),
            started=psutil.Process().create_time(),
            machine=platform.node(),
            mark="" if mark is None else str(mark),
        )

    def __call__(self, config: DictConfig) -> JobEnding:
        """Runs the job that one of Hydra's launchers has composed."""
        self._leave_the_group()
        if not self._is_led():
            self._wait_for_the_end()
        sys.argv = list(self.arguments)
        job = CarriedJob.of(config)
        return self.run(job, job.folder)

    def run(self, job: CheckedRun | CarriedJob, folder: Path) -> JobEnding:
        """Runs one job in its own process and records what it could not record itself.

        Signals are handed to the job; once it has saved and ended, they are left to whoever would have had them.
        """
        return self._run([job], [folder])[0]

    def run_stack(self, jobs: Sequence[CheckedRun], folders: Sequence[Path]) -> list[JobEnding]:
        """As :meth:`run`, for jobs that run side by side in one process."""
        return self._run(jobs, folders, is_stack=True)

    def _run(
        self, jobs: Sequence[CheckedRun | CarriedJob], folders: Sequence[Path], *, is_stack: bool = False
    ) -> list[JobEnding]:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        with _signals_to(host := job_host(self.environment)) as came:
            try:
                endings = host.run(jobs, self.directory, folders, self._is_led, is_stack=is_stack)
            except WorkerError as error:
                job_host.cache_clear()
                endings = [JobEnding(1, f"{error}")] * len(jobs)
                for job, folder in zip(jobs, folders, strict=True):
                    _wait_until_saved(folder)
                    _recorded(job, folder, JobEnding(-signal.SIGKILL))
        endings = [_recorded(*each) for each in zip(jobs, folders, endings, strict=True)]
        if not self._is_led():
            self._wait_for_the_end()
        if self._is_of_a_worker:
            came = [number for number in came if number == signal.SIGTERM]
        if came and not _is_over(endings[0]):
            _leave_to_others(came)
        return endings

    @property
    def _is_of_a_worker(self) -> bool:
        """Whether this is another process than that of the sweep, which ends it."""
        return self.process not in (None, os.getpid())

    def _leave_the_group(self) -> None:
        """Lets a terminal's Ctrl-C reach the sweep alone: it stops its workers in good order."""
        if self._is_of_a_worker:
            with contextlib.suppress(OSError):  # the leader of a session is in no group of others
                os.setpgrp()

    def _wait_for_the_end(self) -> NoReturn:
        """Waits to be ended with the sweep: a worker that left earlier would make its library kill the others."""
        deadline = time.monotonic() + _SECONDS_OF_THE_END
        while self._has_its_sweep() and time.monotonic() < deadline:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    def _is_led(self) -> bool:
        """Whether the sweep still runs."""
        return not (self.mark and Path(self.mark).exists()) and self._has_its_sweep()

    def _has_its_sweep(self) -> bool:
        """Whether the process of the sweep is still there, or need not be."""
        if self.process is None or self.process == os.getpid() or self.machine != platform.node():
            return True
        try:
            return bool(abs(psutil.Process(self.process).create_time() - self.started) < 1.0)
        except psutil.NoSuchProcess:
            return False


def _wait_until_saved(folder: Path) -> None:
    """Waits for a job that has lost its host: the kernel has asked it to stop, and it saves."""
    deadline = time.monotonic() + _SECONDS_TO_SAVE
    while is_in_use(folder) and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)


@functools.lru_cache(maxsize=1)
def job_host(environment: tuple[tuple[str, str], ...]) -> JobHost:
    """The process that this process's jobs are forked from, which have these variables in their environment."""
    forget_safe_path()
    os.environ.update(environment)
    return JobHost()


@contextlib.contextmanager
def _signals_to(host: JobHost) -> Iterator[list[int]]:
    """Hands signals to the job while the block runs, and gives the list of those that came.

    Outside the main thread nothing is handed over.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def hand_over(number: int, frame: FrameType | None) -> None:
        came.append(number)
        host.signal(number)

    before = {number: signal.signal(number, hand_over) for number in CAUGHT}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _recorded(job: CheckedRun | CarriedJob, folder: Path, ending: JobEnding) -> JobEnding:
    """Records the ending in the folder, and returns it; with the reason where nothing can be written there."""
    try:
        if not is_in_use(folder):
            record_death(folder, ending, job.overrides)
    except (BbrlExpError, OSError) as error:
        return JobEnding(ending.code or 1, ending.refusal or f"{error}")
    return ending


def _is_over(ending: JobEnding) -> bool:
    """Whether submitit need not queue a job again that got a signal: it has completed, or failed by itself."""
    was_stopped = ending.was_asked_to_stop or ending.code - STOPPED_BY in CAUGHT
    return _OF_SUBMITIT in os.environ and not was_stopped


def _leave_to_others(numbers: Sequence[int]) -> None:
    """Delivers signals once more: to the sweep, which ends, or to submitit, which queues the job again.

    Slurm sends SIGTERM to what it is about to kill, and submitit takes no notice of it: the job has saved, and waits
    for Slurm, which queues again what it has preempted and leaves what a user has cancelled.
    """
    for number in dict.fromkeys(numbers):
        os.kill(os.getpid(), number)
    if signal.SIGTERM in numbers and _OF_SUBMITIT in os.environ:
        time.sleep(_SECONDS_FOR_THE_SCHEDULER)
