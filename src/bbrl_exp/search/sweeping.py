"""A search from the command line: planned, in a claimed folder, run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.compose import Composer, quoted
from bbrl_exp.config.hydra_node import launcher_name
from bbrl_exp.records.layout import SWEEP_CONFIG, check_sweep_folder
from bbrl_exp.runs.console import Terminal
from bbrl_exp.search.plan import SearchPlan, plan_of
from bbrl_exp.search.search import run_search
from bbrl_exp.search.study import SearchStudy
from bbrl_exp.sweeps.batches import SweepJobs
from bbrl_exp.sweeps.launching import IN_ORDER, check_launcher
from bbrl_exp.sweeps.sweep import claim_sweep_folder
from bbrl_exp.sweeps.task import environment_to_carry, job_host


def plan_and_search(composer: Composer, master: DictConfig, overrides: Sequence[str]) -> int:
    """Checks a search, claims its folder and runs it; gives the exit code.

    Raises:
        ConfigurationError: something cannot be used; nothing was made.
    """
    if not master.dry_run:
        check_launcher(master)
    if launcher_name(master) == IN_ORDER and not master.dry_run:
        job_host(environment_to_carry())  # it takes seconds to import what jobs need, and does so meanwhile
    plan = plan_of(composer, master, overrides)
    wanted = Path(master.hydra.sweep.dir).absolute()
    if master.dry_run:
        check_sweep_folder(wanted)
        _show_plan(plan, wanted)
        return 0
    with claim_sweep_folder(master, wanted) as claim:
        folder = claim.folder
        check_sweep_folder(folder)
        master = composer.compose([*overrides, f"hydra.sweep.dir={quoted(str(folder))}"], multirun=True)
        HydraConfig.instance().set_config(master)
        study = SearchStudy(plan, folder)
        OmegaConf.save(master, folder / SWEEP_CONFIG)
        return run_search(plan, SweepJobs(composer, master, folder), study)


def _show_plan(plan: SearchPlan, folder: Path) -> None:
    terminal = Terminal()
    terminal.table("space", ("key", "values"), [(parameter.key, parameter.written) for parameter in plan.space])
    settings = plan.settings
    terminal.line(
        f"{plan.n_trials} trials by {settings.sampler}, {len(settings.seeds)} runs each, "
        f"{settings.parallel_trials} at once: {plan.n_trials * len(settings.seeds):,} runs"
    )
    if plan.rungs:
        terminal.line(f"compared by {settings.pruner} at {', '.join(f'{rung:,}' for rung in plan.rungs)} steps")
    terminal.line(f"value of a trial: {settings.aggregate} of {settings.objective}, {settings.direction}")
    terminal.line(f"dry run: nothing was made; folder: {folder}")
