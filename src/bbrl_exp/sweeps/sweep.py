"""A sweep from the command line: its jobs, the checks before it, and the table after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.compose import Composer, is_named, quoted
from bbrl_exp.config.hydra_node import launcher_name
from bbrl_exp.records.claim import FolderClaim, claim_new_folder
from bbrl_exp.records.layout import SWEEP_CONFIG, check_sweep_folder
from bbrl_exp.runs.console import Terminal
from bbrl_exp.sweeps.batches import Stopped, SweepJobs
from bbrl_exp.sweeps.folders import with_folders
from bbrl_exp.sweeps.jobs import JobChecks, expand, refuse_if_none_can_run
from bbrl_exp.sweeps.launching import IN_ORDER, check_launcher
from bbrl_exp.sweeps.preview import show_jobs
from bbrl_exp.sweeps.table import show_table
from bbrl_exp.sweeps.task import environment_to_carry, job_host


def run_sweep(composer: Composer, overrides: Sequence[str]) -> int:
    """Runs a sweep, prints its table and gives the exit code: 0 where every job is complete.

    Raises:
        ConfigurationError: an error that all jobs have; nothing was made.
    """
    own = [text for text in overrides if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    jobs = expand(composer.parse([text for text in overrides if text not in own]))
    master = composer.compose(overrides, multirun=True)
    if not master.dry_run:
        check_launcher(master)
    if launcher_name(master) == IN_ORDER:
        job_host(environment_to_carry())  # it takes seconds to import what jobs need, and does so meanwhile
    checks = JobChecks(composer, master)
    jobs = checks(jobs)
    refuse_if_none_can_run(jobs)
    wanted = Path(master.hydra.sweep.dir).absolute()
    if master.dry_run:
        check_sweep_folder(wanted)
        show_jobs(composer, master, with_folders(jobs, wanted), wanted)
        return 0
    with claim_sweep_folder(master, wanted) as claim:
        folder = claim.folder
        master = composer.compose([*overrides, f"hydra.sweep.dir={quoted(str(folder))}"], multirun=True)
        HydraConfig.instance().set_config(master)
        check_sweep_folder(folder)
        OmegaConf.save(master, folder / SWEEP_CONFIG)
        sweep = SweepJobs(composer, master, folder, checks)
        n_left = sum(job.is_runnable for job in with_folders(jobs, folder))
        Terminal().line(f"sweep: {len(jobs)} jobs, {n_left} to run, in {folder}")
        try:
            sweep.run_checked(jobs)
            exit_code = 0
        except Stopped as stopped:
            exit_code = stopped.exit_code
        rows = sweep.rows
        show_table(rows, folder)
    return 0 if sweep.is_fine else exit_code or 1


def claim_sweep_folder(master: DictConfig, wanted: Path) -> FolderClaim:
    """The right to write in the sweep's folder, or in a new one beside it where the sweep has no name.

    Raises:
        ConfigurationError: another sweep holds it, or it cannot be made.
    """
    return FolderClaim(wanted) if is_named(master, "sweep") else claim_new_folder(wanted)
