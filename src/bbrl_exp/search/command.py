"""A search from the command line: planned, in a claimed folder, run."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from typing import TYPE_CHECKING

from bbrl_exp.config.compose import Composer, is_named
from bbrl_exp.config.launchers import LOCAL
from bbrl_exp.config.schema import check_keys
from bbrl_exp.config.search_settings import SearchSettings
from bbrl_exp.config.side_by_side import SIDE_BY_SIDE
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.layout import check_sweep_folder
from bbrl_exp.runs.console import Terminal, project_in_words, sweep_command
from bbrl_exp.sweeps.batches import SweepJobs
from bbrl_exp.sweeps.jobs import JobChecks
from bbrl_exp.sweeps.launching import check_launcher
from bbrl_exp.sweeps.task import environment_to_carry, job_host

if TYPE_CHECKING:
    from bbrl_exp.search.plan import SearchPlan


def search(composer: Composer, config: SweepConfig) -> int:
    """Checks a search, claims its folder and runs it.

    Returns:
        The exit code: 0 where every trial is complete or was pruned, 1 where one failed, 128+n where signal n came.

    Raises:
        ConfigurationError: something cannot be used, and nothing was made; or Optuna is not installed.
    """
    check_keys(config.sweeper, [*(key.name for key in fields(SearchSettings)), "_target_"], "hydra.sweeper")
    if importlib.util.find_spec("optuna") is None:
        raise ConfigurationError(
            "a search needs the extra 'search', which is not installed: pip install \"bbrl_exp[search]\""
        )
    from bbrl_exp.search.plan import plan_of
    from bbrl_exp.search.search import run_search
    from bbrl_exp.search.study import SearchStudy

    if not config.is_shown_only:
        check_launcher(config)
        if config.launcher in (LOCAL, SIDE_BY_SIDE):
            job_host(environment_to_carry())  # it takes seconds to import what jobs need, and does so meanwhile
    plan = plan_of(composer, config)
    if config.is_shown_only:
        check_sweep_folder(config.folder)
        _show_plan(plan, config)
        return 0
    has_name = is_named(config.config, "sweep")
    with config.claim() as claim:
        check_sweep_folder(claim.folder)
        study = SearchStudy(plan, claim.folder)
        config = config.in_folder(composer, claim.folder)
        jobs = SweepJobs(
            config, claim.folder, JobChecks(composer, config.of_hydra, are_stacked=config.launcher == SIDE_BY_SIDE)
        )
        return run_search(plan, jobs, study, sweep_command(claim.folder, is_named=has_name))


def _show_plan(plan: SearchPlan, config: SweepConfig) -> None:
    terminal = Terminal()
    terminal.table("space", ("key", "values"), [(parameter.key, parameter.written) for parameter in plan.space])
    settings = plan.settings
    terminal.line(
        f"{plan.n_trials} trials by {settings.sampler}, {len(settings.seeds)} runs each, "
        f"{settings.parallel_trials} at once: {plan.n_trials * len(settings.seeds):,} runs"
    )
    if plan.rungs:
        terminal.line(f"compared by {settings.pruner} at {', '.join(f'{rung:,}' for rung in plan.rungs)} steps")
    for name, value in project_in_words():
        terminal.line(f"{name}: {value}")
    terminal.line(f"value of a trial: {settings.aggregate} of {settings.objective}, {settings.direction}")
    terminal.line(f"dry run: nothing was made; folder: {config.folder}")
