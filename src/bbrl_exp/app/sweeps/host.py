"""The side of a job's host that a launcher's process sees."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

from bbrl_exp.app.sweeps.ending import JobEnding
from bbrl_exp.processes.fork_host import ForkHost


class JobHost:
    """A process ``bbrl-job-host`` from which jobs are forked, one at a time.

    It ends with this process, whatever ends that; a job that runs then is asked to stop, saves, and ends too.
    """

    def __init__(self) -> None:
        self._host = ForkHost("bbrl_exp.app.sweeps.job_host", "bbrl-job-host", "the jobs' host")
        self.signal = self._host.signal

    def run(self, config: bytes, directory: str, folder: Path, is_wanted: Callable[[], bool]) -> JobEnding:
        """Runs one job to its end.

        Args:
            config: packed, see :mod:`~bbrl_exp.app.sweeps.carried_config`.
            directory: the current one of the job.
            folder: of the job.
            is_wanted: asked about once a second; the job is asked to stop where it is not.

        Raises:
            WorkerError: the host has died, and the job with it.
        """
        ending: JobEnding = pickle.loads(
            self._host.run(pickle.dumps((config, directory, str(folder), sys.argv)), is_wanted)
        )
        return ending
