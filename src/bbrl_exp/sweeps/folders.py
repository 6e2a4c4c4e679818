"""Which folder of a sweep belongs to which job: a job is known by the hash of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.identity import LENGTH_KEYS, differing_keys, saved_identity
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.layout import job_folder_name
from bbrl_exp.records.summary import read_summary
from bbrl_exp.runs.resume import has_begun, is_complete
from bbrl_exp.sweeps.jobs import Job, names_job

_DIGITS = 8


def with_folders(jobs: Sequence[Job], sweep: Path) -> list[Job]:
    """The jobs, each with the folder that holds its run already, else with a free one; and whether it is complete.

    What a job's folder is called depends on what the sweep varies. A sweep that varies more than it did knows its jobs
    by their configurations, and leaves their folders as they are.
    """
    hashes = hashes_in(sweep)
    found: dict[str, str] = {}
    for name, config_hash in hashes.items():
        found.setdefault(config_hash, name)
    own = {job.folder for job in jobs if job.config_hash is not None and hashes.get(job.folder) == job.config_hash}
    placed: list[Job] = []
    for job in jobs:
        if job.config_hash is not None and job.folder not in own:
            there = found.get(job.config_hash)
            if there is not None and there not in own:
                own.add(there)
                job = replace(job, folder=there)
            elif job.folder in hashes and has_begun(read_summary(sweep / job.folder)):
                job = replace(job, folder=_free_name(job, sweep, hashes))
        placed.append(_with_state(job, sweep))
    return placed


def hashes_in(sweep: Path) -> dict[str, str]:
    """The hash of each job in the sweep's folder, also of those that were refused, by the name of its folder."""
    hashes: dict[str, str] = {}
    for folder in sorted(sweep.iterdir()) if sweep.is_dir() else ():
        summary = read_summary(folder)
        if summary is not None and isinstance(summary.get("config_hash"), str):
            hashes[folder.name] = summary["config_hash"]
    return hashes


def _free_name(job: Job, sweep: Path, hashes: dict[str, str]) -> str:
    """The name of a folder for a job whose own name belongs to another one; its own if that is the same but shorter."""
    if job.run is not None and _is_made_longer(sweep / job.folder, job.run):
        return job.folder
    naming = [text for text in job.overrides if text in job.varied or names_job(text)]
    name = job_folder_name(",".join(sorted(naming)))
    is_untaken = hashes.get(name, job.config_hash) == job.config_hash
    return name if is_untaken else f"{name}_{(job.config_hash or '')[:_DIGITS]}"


def _is_made_longer(folder: Path, run: CheckedRun) -> bool:
    try:
        return (
            "total_steps" in (keys := differing_keys(saved_identity(folder), run.identity)) and {*keys} <= LENGTH_KEYS
        )
    except ConfigurationError:
        return True  # nothing is known of it: the run itself says what is wrong


def _with_state(job: Job, sweep: Path) -> Job:
    if job.run is None or job.error is not None:
        return job
    try:
        return replace(job, is_complete=is_complete(sweep / job.folder, job.run))
    except ConfigurationError as error:
        return replace(job, error=str(error))
