"""A sweep from the command line: its jobs, the checks before it, and the table after it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bbrl_exp.config.compose import Composer, is_named
from bbrl_exp.config.launchers import LOCAL
from bbrl_exp.config.overrides import parse
from bbrl_exp.config.side_by_side import SIDE_BY_SIDE
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.layout import check_sweep_folder
from bbrl_exp.records.tables import SweepRow
from bbrl_exp.runs.console import Terminal, project_in_words, sweep_command
from bbrl_exp.runs.run import CONFIG_NAME, open_composer
from bbrl_exp.settings import bad_value
from bbrl_exp.sweeps.batches import SweepJobs
from bbrl_exp.sweeps.folders import with_folders
from bbrl_exp.sweeps.jobs import Job, JobChecks, expand, refuse_if_none_can_run
from bbrl_exp.sweeps.launching import check_launcher
from bbrl_exp.sweeps.preview import show_jobs
from bbrl_exp.sweeps.stopping import SweepStoppedError
from bbrl_exp.sweeps.table import show_table
from bbrl_exp.sweeps.task import environment_to_carry, job_host
from bbrl_exp.text import counted


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        folder: of the sweep.
        rows: of its jobs: overrides, status, returns, folder and error.
        exit_code: 0 where every job is complete.
    """

    folder: Path
    rows: tuple[SweepRow, ...]
    exit_code: int


def sweep(
    overrides: Sequence[str],
    *,
    config_dir: str | os.PathLike[str] | None = None,
    extra_dir: str | os.PathLike[str] | None = None,
    config_name: str = CONFIG_NAME,
) -> SweepResult:
    """Runs a sweep, as ``bbrl-exp run -m`` with these overrides does.

    Args:
        overrides: such as ``["agent=ppo", "seed=0,1,2", "batch_size=8,16"]``.
        config_dir: the configuration folder; None for the one of this package.
        extra_dir: the folder of your options, as ``--config-dir``.
        config_name: the root file, without ``.yaml``.

    Raises:
        ConfigurationError: an error that all jobs have, or a search; nothing was made.
    """
    with open_composer(config_dir, extra_dir, config_name) as composer:
        config = SweepConfig.of(composer, overrides)
        if config.is_search:
            raise ConfigurationError("the configuration describes a search, and this is a sweep; bbrl-exp run searches")
        if config.is_shown_only:
            raise bad_value("dry_run", True, "false where the result of a sweep is wanted")
        checks = JobChecks(composer, config.of_hydra, are_stacked=config.launcher == SIDE_BY_SIDE)
        return _run(composer, config, checks, _checked_jobs(config, checks))


def run_sweep(composer: Composer, config: SweepConfig) -> int:
    """Runs a sweep, prints its table and gives the exit code: 0 where every job is complete.

    Raises:
        ConfigurationError: an error that all jobs have; nothing was made.
    """
    checks = JobChecks(composer, config.of_hydra, are_stacked=config.launcher == SIDE_BY_SIDE)
    jobs = _checked_jobs(config, checks)
    if config.is_shown_only:
        check_sweep_folder(config.folder)
        return show_jobs(config, with_folders(jobs, config.folder))
    return _run(composer, config, checks, jobs).exit_code


def _checked_jobs(config: SweepConfig, checks: JobChecks) -> list[Job]:
    in_yaml = [f"{key}={value}" for key, value in (config.sweeper["params"] or {}).items()]
    jobs = expand([*parse(in_yaml), *config.typed])
    if not config.is_shown_only:
        check_launcher(config)
    if config.launcher in (LOCAL, SIDE_BY_SIDE):
        job_host(environment_to_carry())  # it takes seconds to import what jobs need, and does so meanwhile
    jobs = checks(jobs)
    refuse_if_none_can_run(jobs)
    return jobs


def _run(composer: Composer, config: SweepConfig, checks: JobChecks, jobs: list[Job]) -> SweepResult:
    has_name = is_named(config.config, "sweep")
    with config.claim() as claim:
        check_sweep_folder(claim.folder)
        config = config.in_folder(composer, claim.folder)
        sweep = SweepJobs(config, claim.folder, checks)
        n_left = sum(job.is_runnable for job in with_folders(jobs, claim.folder))
        terminal = Terminal()
        terminal.line(f"sweep: {counted(len(jobs), 'job')}, {n_left} to run, in {claim.folder}")
        for name, value in project_in_words():
            terminal.line(f"{name}: {value}")
        exit_code = 0
        try:
            sweep.run_checked(jobs)
        except SweepStoppedError as stopped:
            exit_code = stopped.code
        show_table(sweep.rows, claim.folder, sweep_command(claim.folder, is_named=has_name), sweep.stacks)
    return SweepResult(claim.folder, tuple(sweep.rows), 0 if sweep.is_fine else exit_code or 1)
