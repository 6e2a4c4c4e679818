"""A sweep from the command line: its jobs, the checks before it, and the table after it."""

from __future__ import annotations

from bbrl_exp.config.compose import Composer, is_named
from bbrl_exp.config.launchers import LOCAL
from bbrl_exp.config.overrides import parse
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.records.layout import check_sweep_folder
from bbrl_exp.runs.console import Terminal, project_in_words, sweep_command
from bbrl_exp.sweeps.batches import SweepJobs
from bbrl_exp.sweeps.folders import with_folders
from bbrl_exp.sweeps.jobs import JobChecks, expand, refuse_if_none_can_run
from bbrl_exp.sweeps.launching import check_launcher
from bbrl_exp.sweeps.preview import show_jobs
from bbrl_exp.sweeps.stopping import SweepStoppedError
from bbrl_exp.sweeps.table import show_table
from bbrl_exp.sweeps.task import environment_to_carry, job_host


def run_sweep(composer: Composer, config: SweepConfig) -> int:
    """Runs a sweep, prints its table and gives the exit code: 0 where every job is complete.

    Raises:
        ConfigurationError: an error that all jobs have; nothing was made.
    """
    in_yaml = [f"{key}={value}" for key, value in (config.sweeper["params"] or {}).items()]
    jobs = expand([*parse(in_yaml), *config.typed])
    if not config.is_shown_only:
        check_launcher(config)
    if config.launcher == LOCAL:
        job_host(environment_to_carry())  # it takes seconds to import what jobs need, and does so meanwhile
    checks = JobChecks(composer, config.of_hydra)
    jobs = checks(jobs)
    refuse_if_none_can_run(jobs)
    if config.is_shown_only:
        check_sweep_folder(config.folder)
        return show_jobs(config, with_folders(jobs, config.folder))
    has_name = is_named(config.config, "sweep")
    with config.claim() as claim:
        check_sweep_folder(claim.folder)
        config = config.in_folder(composer, claim.folder)
        sweep = SweepJobs(config, claim.folder, checks)
        n_left = sum(job.is_runnable for job in with_folders(jobs, claim.folder))
        terminal = Terminal()
        terminal.line(f"sweep: {len(jobs)} jobs, {n_left} to run, in {claim.folder}")
        for name, value in project_in_words():
            terminal.line(f"{name}: {value}")
        exit_code = 0
        try:
            sweep.run_checked(jobs)
        except SweepStoppedError as stopped:
            exit_code = stopped.code
        show_table(sweep.rows, claim.folder, sweep_command(claim.folder, is_named=has_name))
    return 0 if sweep.is_fine else exit_code or 1
