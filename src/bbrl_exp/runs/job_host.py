"""The process that jobs are forked from: ``python -m bbrl_exp.runs.job_host bbrl-job-host <socket> …``."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bbrl_exp.compilation.cache import delete_temporary
from bbrl_exp.config.carried import CarriedJob
from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.project import import_from_project
from bbrl_exp.processes.fork_host import ForkHost, serve_forks
from bbrl_exp.processes.parent import SINGLE_THREADED
from bbrl_exp.records.layout import LOG
from bbrl_exp.runs.ending import JobEnding

_IMPORTED = (
    "torch",
    "gymnasium",
    "threadpoolctl",
    "bbrl_exp.runs.job",
    "bbrl_exp.tracking.tracker",
    "bbrl_exp.training.checkpoints",
)
# Imported once for all jobs if a job has imported them. A user's own package is not: it may do anything.
_KNOWN_PACKAGES = ("bbrl_exp", "torch", "numpy", "gymnasium", "tensorboard", "google", "PIL", "logging", "importlib")


class JobHost:
    """A process ``bbrl-job-host`` from which jobs are forked, one at a time.

    It ends with this process, whatever ends that; a job that runs then is asked to stop, saves, and ends too.
    """

    def __init__(self) -> None:
        self._host = ForkHost("bbrl_exp.runs.job_host", "bbrl-job-host", "the jobs' host")
        self.signal = self._host.signal

    def run(
        self,
        jobs: Sequence[CheckedRun | CarriedJob],
        directory: str,
        folders: Sequence[Path],
        is_wanted: Callable[[], bool],
        *,
        is_stack: bool = False,
    ) -> list[JobEnding]:
        """Runs one job to its end, or a stack side by side.

        Args:
            jobs: one, see :func:`~bbrl_exp.runs.job.run_job`; of a stack, see
                :func:`~bbrl_exp.runs.stack.run_stack`.
            directory: the current one of the jobs.
            folders: of the jobs.
            is_wanted: asked about once a second; the jobs are asked to stop where they are not.
            is_stack: whether the jobs are a stack.

        Raises:
            WorkerError: the host has died, and the jobs with it.
        """
        places = [str(folder) for folder in folders]
        content = pickle.dumps((list(jobs), directory, places, sys.argv, sys.path, dict(os.environ), is_stack))
        code, endings = pickle.loads(self._host.run(content, is_wanted))
        return [JobEnding(*ending) for ending in endings or [(code, None)] * len(jobs)]


class _Preparation:
    """What the host does before each job.

    Records state the command of the sweep, and modules are found where the launcher's process finds them. The parser of
    interpolations sees what it will see in every job: it is ten times as fast from the first time on.
    """

    _is_warm = False

    def __call__(self, content: bytes) -> None:
        (job, *_), _, _, sys.argv, path, *_ = pickle.loads(content)
        sys.path += [entry for entry in path if entry not in sys.path]
        if isinstance(job, CarriedJob) and not self._is_warm:
            self._is_warm = True
            from bbrl_exp.config.identity import identity

            with contextlib.suppress(Exception):
                identity(job.config())


def _run(content: bytes) -> tuple[int, Any]:
    """Runs jobs in this forked process; gives an exit code, how each job ended, and what they have imported.

    What code prints goes to the log of the first job that can have one.
    """
    known = set(sys.modules)
    jobs, directory, places, _, _, environment, is_stack = pickle.loads(content)
    folders = [Path(place) for place in places]
    os.environ.clear()  # variables may have changed since the host was started
    os.environ.update(environment | SINGLE_THREADED)
    os.chdir(directory)
    log = _log_of(folders)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        if is_stack:
            from bbrl_exp.runs.stack import run_stack

            endings = [(ending.code, ending.refusal) for ending in run_stack(jobs, folders)]
        else:
            from bbrl_exp.runs.job import run_job

            endings = [run_job(jobs[0], folders[0])]
    finally:
        delete_temporary()
    modules = [name for name in sys.modules if name not in known and name.partition(".")[0] in _KNOWN_PACKAGES]
    return next((code for code, _ in endings if code), 0), [endings, modules]


def _log_of(folders: Sequence[Path]) -> int:
    for folder in folders:
        with contextlib.suppress(OSError):  # the job reports the error itself
            return os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    return os.open(os.devnull, os.O_WRONLY)


def _ended(code: int, report: Any) -> bytes:
    """Imports for the next jobs what these have imported; gives the exit code and how each job ended, pickled."""
    endings, modules = report or (None, ())
    _import(modules)
    return pickle.dumps((code, endings))


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


if __name__ == "__main__":
    import_from_project()
    _import(_IMPORTED)
    serve_forks(sys.argv[1:], _Preparation(), _run, _ended)
