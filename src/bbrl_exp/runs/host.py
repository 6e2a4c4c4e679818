"""The side of a job's host that a launcher's process sees."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

from bbrl_exp.config.carried import CarriedJob
from bbrl_exp.config.check import CheckedRun
from bbrl_exp.errors import WorkerError
from bbrl_exp.processes.messages import ALIVE
from bbrl_exp.processes.parent import ChildProcess
from bbrl_exp.runs.ending import JobEnding
from bbrl_exp.runs.job_host import JOB, SIGNAL

_SECONDS_BETWEEN_LOOKS = 1.0


class JobHost:
    """A process ``bbrl-job-host`` from which jobs are forked, one at a time.

    It ends with this process, whatever ends that; a job that runs then is asked to stop, saves, and ends too.
    """

    def __init__(self) -> None:
        self._child = ChildProcess("bbrl_exp.runs.job_host", "bbrl-job-host", "the jobs' host", [], WorkerError)
        self._is_busy = False
        self._waiting_signal: int | None = None
        weakref.finalize(self, _close, os.getpid(), self._child)

    def run(
        self, job: CheckedRun | CarriedJob, directory: str, folder: Path, is_wanted: Callable[[], bool]
    ) -> JobEnding:
        """Runs one job to its end.

        Args:
            job: see :func:`~bbrl_exp.runs.job.run_job`.
            directory: the current one of the job.
            folder: of the job.
            is_wanted: asked about once a second; the job is asked to stop where it is not.

        Raises:
            WorkerError: the host has died, and the job with it.
        """
        self._child.send(JOB, pickle.dumps((job, directory, str(folder), sys.argv)))
        self._is_busy = True
        was_asked = False
        try:
            if self._waiting_signal is not None:
                self.signal(self._waiting_signal)
            while not select.select([self._child.connection], [], [], _SECONDS_BETWEEN_LOOKS)[0]:
                if not was_asked and not is_wanted():
                    was_asked = True
                    self.signal(signal.SIGTERM)
            ending: JobEnding = pickle.loads(self._child.receive()[1])
        finally:
            self._is_busy, self._waiting_signal = False, None
        with contextlib.suppress(WorkerError):  # the job has ended in any case; the next one finds out
            self._child.send(ALIVE)
        return ending

    def signal(self, number: int) -> None:
        """Hands a signal to the job that runs, or that is about to."""
        if self._is_busy:
            self._child.send(SIGNAL, number.to_bytes())
        else:
            self._waiting_signal = number


def _close(owner: int, child: ChildProcess) -> None:
    if os.getpid() == owner:
        child.connection.close()
        child.process.wait()
