"""Batches of jobs, run one batch after the other in the folder of a sweep."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.records.claim import is_in_use
from bbrl_exp.records.summary import read_summary
from bbrl_exp.records.tables import SweepRow, write_sweep_table
from bbrl_exp.runs.ending import record_refusal
from bbrl_exp.sweeps.folders import with_folders
from bbrl_exp.sweeps.jobs import Job, JobChecks, named_jobs
from bbrl_exp.sweeps.launching import Launched, launch
from bbrl_exp.sweeps.stopping import SweepStoppedError
from bbrl_exp.sweeps.table import is_job_fine, other_rows, row_of
from bbrl_exp.sweeps.watch import SweepWatch

_SECONDS_TO_SAVE = 60.0
_SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class JobResult:
    """What came of a job.

    Attributes:
        overrides: all of them.
        folder: where its run lies.
        status: of the run, ``"completed"``, ``"failed"``, …
        error: why it did not complete.
        summary: the contents of ``summary.json``.
    """

    overrides: tuple[str, ...]
    folder: Path
    status: str
    error: str | None
    summary: Mapping[str, Any]


class SweepJobs:
    """Runs jobs in the claimed folder of a sweep and keeps the table of all of them.

    Attributes:
        folder: of the sweep.
        stacks: the names of the folders of the jobs that ran side by side.
    """

    def __init__(self, config: SweepConfig, folder: Path, checks: JobChecks) -> None:
        self.folder = folder
        self._config = config
        self._checks = checks
        self._rows: dict[str, SweepRow] = {}
        self.stacks: list[tuple[str, ...]] = []

    @property
    def is_fine(self) -> bool:
        """Whether every job that this sweep was asked for did all that it was asked to."""
        return all(is_job_fine(row) for row in self._rows.values())

    @property
    def rows(self) -> list[SweepRow]:
        """The table: the jobs in the order in which they first ran, then those of earlier commands."""
        return [*self._rows.values(), *other_rows(self.folder, self._rows)]

    def run(self, jobs: Sequence[Sequence[str]], constant: Sequence[str], folders: Sequence[str]) -> list[JobResult]:
        """Runs what is not complete of a batch.

        Args:
            jobs: the overrides of each.
            constant: those that all jobs of the sweep have.
            folders: the name of each job's folder, unless another one holds its run.

        Returns:
            What came of each, in order; of a job that is there twice, twice.

        Raises:
            SweepStoppedError: a signal asked for it; the jobs have saved, and the table is written.
        """
        named = named_jobs(jobs, constant, folders)
        results = dict(zip((job.overrides for job in named), self.run_checked(self._checks(named)), strict=True))
        return [results[tuple(overrides)] for overrides in jobs]

    def run_checked(self, jobs: Sequence[Job]) -> list[JobResult]:
        """As :meth:`run`, for jobs that have been checked; those without an error run."""
        jobs = with_folders(jobs, self.folder)
        for job in jobs:
            if job.error is not None:
                record_refusal(self.folder / job.folder, job.error, job.overrides, job.config_hash)
        runnable = [job for job in jobs if job.is_runnable]
        launched = Launched()
        if runnable:
            with SweepWatch(self.folder, jobs):
                launched = launch(self._config, [job for job in jobs if job.error is None])
                if not launched.outlives_sweep:
                    self._wait_for(runnable)
        self.stacks += launched.stacks
        for job in jobs:
            error = job.error or self._not_begun(job, launched)
            row = row_of(self.folder, job.folder, job.varied, error, is_stopped=launched.exit_code > 0)
            self._rows[job.folder] = row
        write_sweep_table(self.folder, self.rows)
        if launched.exit_code:
            raise SweepStoppedError(launched.exit_code)
        return [self._result(job) for job in jobs]

    def _not_begun(self, job: Job, launched: Launched) -> str | None:
        """Why a job did not begin; None where it did, or where nobody knows."""
        if (ending := launched.endings.get(job.folder)) is not None:
            return ending.refusal
        return launched.lost.get(job.folder) if read_summary(self.folder / job.folder) is None else None

    def _wait_for(self, jobs: Sequence[Job]) -> None:
        """Waits until no job is saving any more, at most a minute, and no longer than the user wants."""
        deadline = time.monotonic() + _SECONDS_TO_SAVE
        with contextlib.suppress(KeyboardInterrupt):
            while time.monotonic() < deadline and any(is_in_use(self.folder / job.folder) for job in jobs):
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _result(self, job: Job) -> JobResult:
        row = self._rows[job.folder]
        summary = read_summary(self.folder / job.folder) or {}
        return JobResult(job.overrides, self.folder / job.folder, row.status, row.error, summary)
