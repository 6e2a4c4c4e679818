"""What ``dry_run=true`` shows of a sweep: its jobs, which of them are left, and about how long they will take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from bbrl_exp.app.compose import Composer
from bbrl_exp.app.dry_run import time_in_words
from bbrl_exp.app.estimate import TRIAL_SECONDS, Estimate, TrialFailure, Trials
from bbrl_exp.app.hydra_node import launcher_name
from bbrl_exp.app.report import Terminal
from bbrl_exp.app.sweeps.jobs import Job, kind_of
from bbrl_exp.memory import in_words

_MOST_TRIALS = 12

Told = Mapping[tuple[str, ...], Estimate | TrialFailure | None]


def show_jobs(composer: Composer, master: DictConfig, jobs: Sequence[Job], folder: Path) -> None:
    """Prints the jobs, their number, and an estimate of time, memory and disk; makes nothing.

    Args:
        composer: of their configurations.
        master: of the sweep.
        jobs: with their folders.
        folder: where the sweep would lie.
    """
    terminal = Terminal()
    left = [job for job in jobs if job.is_runnable]
    estimates = _estimates(composer, master, left)
    terminal.table(
        "jobs",
        ("overrides", "state", "environment steps", "memory", "time", "folder"),
        [
            (
                " ".join(job.varied) or " ".join(job.overrides),
                _state(job, folder),
                f"{job.run.plan.env_steps:,}" if job.run else "-",
                in_words(job.run.plan.workspace_bytes + job.run.plan.replay_bytes) if job.run else "-",
                _time(job, estimates),
                job.folder,
            )
            for job in jobs
        ],
    )
    for job in jobs:
        if job.error is not None:
            terminal.line(f"cannot run: {' '.join(job.varied) or job.folder}: {job.error}")
        elif isinstance(told := estimates.get(kind_of(job)), TrialFailure):
            terminal.line(f"a trial failed: {' '.join(job.varied) or job.folder}: {told.error}")
    steps = sum(job.run.plan.env_steps for job in left if job.run)
    terminal.line(f"{len(jobs)} jobs, {len(left)} to run, {steps:,} environment steps")
    for line in _totals(left, estimates, _side_by_side(master)):
        terminal.line(line)
    terminal.line(f"dry run: nothing was made; folder: {folder}")


def _estimates(composer: Composer, master: DictConfig, jobs: Sequence[Job]) -> Told:
    """By kind of job, from trials of the first kinds."""
    kinds: dict[tuple[str, ...], Job] = {}
    for job in jobs:
        kinds.setdefault(kind_of(job), job)
    measure = Trials()
    return {
        kind: measure(composer.compose_job(master, job.overrides)) for kind, job in list(kinds.items())[:_MOST_TRIALS]
    }


def _state(job: Job, sweep: Path) -> str:
    if job.error is not None:
        return "cannot run"
    has_checkpoint = any((sweep / job.folder / "checkpoints").glob("step_*.pt"))
    return "complete" if job.is_complete else "to go on" if has_checkpoint else "to run"


def _seconds(job: Job, estimates: Told) -> float | None:
    estimate = estimates.get(kind_of(job)) if job.is_runnable else None
    return job.run.plan.env_steps / estimate.steps_per_second if isinstance(estimate, Estimate) and job.run else None


def _time(job: Job, estimates: Told) -> str:
    seconds = _seconds(job, estimates)
    return "-" if seconds is None else f"about {time_in_words(seconds)}"


def _totals(jobs: Sequence[Job], estimates: Told, side_by_side: int | None) -> list[str]:
    known = [(job, seconds) for job in jobs if (seconds := _seconds(job, estimates)) is not None]
    if not known:
        return []
    total = sum(seconds for _, seconds in known)
    rest = "" if len(known) == len(jobs) else f" for {len(known)} of them (no trial tells of the others)"
    how = (
        "one after the other"
        if side_by_side == 1
        else f"{side_by_side} side by side about {time_in_words(total / side_by_side)}"
        if side_by_side
        else "side by side as many as the cluster takes"
    )
    disk = sum(
        estimate.bytes_per_step * job.run.plan.env_steps
        for job, _ in known
        if isinstance(estimate := estimates[kind_of(job)], Estimate) and job.run
    )
    return [
        f"time: about {time_in_words(total)}{rest} in all, {how}; from trials of {TRIAL_SECONDS:g} s, evaluations "
        "left out",
        f"disk: at most about {in_words(disk)}, checkpoints left out",
    ]


def _side_by_side(master: DictConfig) -> int | None:
    """How many jobs run at once; None where the launcher does not say."""
    name = launcher_name(master)
    if name == "basic":
        return 1
    if name != "joblib":
        return None
    n_jobs = int(master.hydra.launcher.n_jobs)
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)
