"""Watches the folders of a sweep's jobs while a launcher runs them: a line for each that ends, or a live table."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bbrl_exp.config.schema import acting_of
from bbrl_exp.records.layout import SUMMARY
from bbrl_exp.records.metrics import TRAINING_RETURNS, evaluations_of, newest_points
from bbrl_exp.records.summary import Summary, read_summary, status_of
from bbrl_exp.runs.console import Terminal, end_lines
from bbrl_exp.sweeps.jobs import Job
from bbrl_exp.text import clock_time

if TYPE_CHECKING:
    from rich.live import Live

_SECONDS_BETWEEN_LOOKS = 0.5
_SHOWN = 12


@dataclass
class WatchedJob:
    """What is known of a job.

    Attributes:
        planned: environment steps that it will have.
        changed: modification time of its summary; 0 if there is none.
        status: of its run, ``"waiting"`` before it begins.
        summary: None until the run has ended.
        newest_return: of an evaluation or a training episode.
        evaluations: the name of the mean returns of the evaluations that it is judged by.
    """

    folder: Path
    planned: int
    changed: int
    status: str = "waiting"
    summary: Summary | None = None
    env_steps: int = 0
    newest_return: float | None = None
    evaluations: str = evaluations_of("mode")

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.status not in ("waiting", "running")


class SweepWatch:
    """A thread that reads what jobs leave in their folders, wherever they run; used as a context.

    On a terminal it redraws a table twice a second; elsewhere it prints a line for each job that ends.
    """

    def __init__(self, sweep: Path, jobs: Sequence[Job]) -> None:
        self._n_before = sum(not job.is_runnable for job in jobs)
        self._jobs = [_watched(job, sweep) for job in jobs if job.is_runnable]
        self._terminal = Terminal()
        self._started = time.monotonic()
        self._over = threading.Event()
        self._live = _live_table() if sys.stdout.isatty() else None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SweepWatch:
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        if self._live is not None:
            self._live.stop()

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        for job in self._jobs:
            if not job.has_ended and _update(job) and self._live is None and job.summary is not None:
                lines = end_lines(job.summary, job.folder, is_saved=False)
                self._terminal.line(f"{job.folder.name}: {'; '.join(lines[:-1])}")
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text("\n".join(self.lines(time.monotonic() - self._started))), refresh=True)

    def lines(self, seconds: float) -> list[str]:
        """The live table, ``seconds`` after the sweep began: how many jobs are in which state, and their progress."""
        n_paused = sum(job.status == "paused" for job in self._jobs)
        n_failed = sum(job.has_ended and job.status not in ("completed", "paused") for job in self._jobs)
        n_done = sum(job.status == "completed" for job in self._jobs)
        running = [job for job in self._jobs if job.status == "running"]
        n_waiting = len(self._jobs) - n_done - n_failed - n_paused - len(running)
        steps = sum(job.planned if job.has_ended else job.env_steps for job in self._jobs)
        planned = sum(job.planned for job in self._jobs)
        left = f", about {clock_time(seconds * (planned - steps) / steps)} left" if steps else ""
        before = f" (and {self._n_before} that were complete or cannot run)" if self._n_before else ""
        lines = [
            f"{n_done} of {len(self._jobs)} jobs completed{before}, {f'{n_paused} paused, ' if n_paused else ''}"
            f"{n_failed} failed, {len(running)} running, {n_waiting} waiting; {clock_time(seconds)}{left}"
        ]
        width = max((len(job.folder.name) for job in running[:_SHOWN]), default=0)
        for job in running[:_SHOWN]:
            mean = "" if job.newest_return is None else f"  return {job.newest_return:.4g}"
            lines.append(
                f"  {job.folder.name:<{width}}  {100 * job.env_steps // job.planned:3d} %  "
                f"{job.env_steps:,} / {job.planned:,} steps{mean}"
            )
        if len(running) > _SHOWN:
            lines.append(f"  and {len(running) - _SHOWN} more")
        ended = [job for job in self._jobs if job.status != "completed" and job.summary is not None]
        lines += [f"  {job.status}: {job.folder.name}: {job.summary.error}" for job in ended[-3:] if job.summary]
        return lines


def _watched(job: Job, sweep: Path) -> WatchedJob:
    assert job.run is not None
    folder = sweep / job.folder
    evaluations = evaluations_of(acting_of(job.run.root.eval))
    return WatchedJob(folder, job.run.size.env_steps, _changed(folder), evaluations=evaluations)


def _changed(folder: Path) -> int:
    try:
        return os.stat(folder / SUMMARY).st_mtime_ns
    except OSError:
        return 0


def _update(job: WatchedJob) -> bool:
    """Reads what is new of a job; True where its summary changed."""
    changed = _changed(job.folder)
    if job.status == "running":
        for point in newest_points(job.folder):
            job.env_steps = max(job.env_steps, point.env_steps)
            if point.name in (job.evaluations, TRAINING_RETURNS):
                job.newest_return = point.value
    if changed == job.changed:
        return False
    contents = read_summary(job.folder)
    if contents is None:
        return False
    job.changed, job.status = changed, str(status_of(contents))
    if job.has_ended:
        job.summary = Summary.of(contents)
    return True


def _live_table() -> Live:
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(), auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
