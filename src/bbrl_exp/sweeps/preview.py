"""What ``dry_run=true`` shows of a sweep: its jobs, which of them are left, and about how long they will take."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.launchers import LOCAL
from bbrl_exp.config.side_by_side import SIDE_BY_SIDE
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.runs.console import Terminal, project_in_words
from bbrl_exp.runs.estimate import MEASURED_SECONDS, Estimate, MeasurementFailure, measure
from bbrl_exp.runs.job_host import JobHost
from bbrl_exp.sweeps.jobs import Job, kind_of
from bbrl_exp.sweeps.stacks import Plan, plan
from bbrl_exp.text import counted, size_in_words, time_in_words

_MOST_MEASURED = 12

Estimates = Mapping[tuple[str, ...], Estimate | MeasurementFailure | None]


def show_jobs(config: SweepConfig, jobs: Sequence[Job]) -> int:
    """Prints the jobs, their number, and an estimate of time, memory and disk; makes nothing.

    Returns:
        The exit code: 1 where a job cannot run, or failed while its speed was measured; else 0.
    """
    terminal, folder = Terminal(), config.folder
    left = [job for job in jobs if job.is_runnable]
    estimates = _estimates(left)
    terminal.table(
        "jobs",
        ("overrides", "state", "environment steps", "memory", "time", "folder"),
        [
            (
                " ".join(job.varied) or " ".join(job.overrides),
                _state(job, folder),
                f"{job.run.size.env_steps:,}" if job.run else "-",
                size_in_words(job.run.size.workspace_bytes + job.run.size.replay_bytes) if job.run else "-",
                _time(job, estimates),
                job.folder,
            )
            for job in jobs
        ],
    )
    complaints = _complaints(jobs, estimates)
    for line in complaints:
        terminal.line(line)
    steps = sum(job.run.size.env_steps for job in left if job.run)
    terminal.line(f"{counted(len(jobs), 'job')}, {len(left)} to run, {steps:,} environment steps")
    for name, value in project_in_words():
        terminal.line(f"{name}: {value}")
    planned = Plan((), ())
    if config.launcher == SIDE_BY_SIDE:
        planned = plan([job for job in jobs if job.error is None], config.jobs_per_stack)
    for line in planned.lines:
        terminal.line(line)
    for line in _totals(left, estimates, partial(_in_order, config, len(left), bool(planned.stacks))):
        terminal.line(line)
    terminal.line(f"dry run: nothing was made; folder: {folder}")
    return 1 if complaints else 0


def _estimates(jobs: Sequence[Job]) -> Estimates:
    """By kind of job, measured for the first kinds."""
    kinds: dict[tuple[str, ...], CheckedRun] = {}
    for job in jobs:
        assert job.run is not None
        kinds.setdefault(kind_of(job), job.run)
    host = JobHost()
    return {kind: measure(run, host) for kind, run in list(kinds.items())[:_MOST_MEASURED]}


def _complaints(jobs: Sequence[Job], estimates: Estimates) -> list[str]:
    """What keeps jobs from running: each cause once, with the jobs that have it."""
    causes: dict[tuple[str, str], list[str]] = {}
    for job in jobs:
        name = " ".join(job.varied) or job.folder
        if job.error is not None:
            causes.setdefault(("cannot run", job.error), []).append(name)
        elif isinstance(failure := estimates.get(kind_of(job)), MeasurementFailure):
            causes.setdefault(("failed while its speed was measured", failure.error), []).append(name)
    return [
        f"{what}: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {error}"
        for (what, error), names in causes.items()
    ]


def _state(job: Job, sweep: Path) -> str:
    if job.error is not None:
        return "cannot run"
    has_checkpoint = any((sweep / job.folder / "checkpoints").glob("step_*.pt"))
    return "complete" if job.is_complete else "to resume" if has_checkpoint else "to run"


def _seconds(job: Job, estimates: Estimates) -> float | None:
    estimate = estimates.get(kind_of(job)) if job.is_runnable else None
    return job.run.size.env_steps / estimate.steps_per_second if isinstance(estimate, Estimate) and job.run else None


def _time(job: Job, estimates: Estimates) -> str:
    seconds = _seconds(job, estimates)
    return "-" if seconds is None else f"about {time_in_words(seconds)}"


def _totals(jobs: Sequence[Job], estimates: Estimates, in_order: Callable[[float], str]) -> list[str]:
    known = [(job, seconds) for job in jobs if (seconds := _seconds(job, estimates)) is not None]
    if not known:
        return []
    total = sum(seconds for _, seconds in known)
    rest = "" if len(known) == len(jobs) else f" for {len(known)} of them (the others were not measured)"
    disk = sum(
        estimate.bytes_per_step * job.run.size.env_steps
        for job, _ in known
        if isinstance(estimate := estimates[kind_of(job)], Estimate) and job.run
    )
    return [
        f"time: about {time_in_words(total)}{rest} in all, {in_order(total)}; measured for {MEASURED_SECONDS:g} s per "
        "kind of job, evaluations left out",
        f"disk: at most about {size_in_words(disk)}, checkpoints left out",
    ]


def _in_order(config: SweepConfig, n_left: int, has_stacks: bool, seconds: float) -> str:
    """How the launcher runs ``n_left`` jobs that take ``seconds`` in all, if each were alone."""
    if has_stacks:
        return "one after the other; the jobs of a stack share one process and take less"
    if config.launcher in (LOCAL, SIDE_BY_SIDE):
        return "one after the other"
    if (n_jobs := config.n_jobs) is None:
        return "as many at a time as the cluster takes"
    at_once = n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)
    at_once = min(at_once, n_left)
    return f"{at_once} at a time about {time_in_words(seconds / at_once)}" if at_once > 1 else "one after the other"
