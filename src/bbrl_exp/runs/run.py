"""One run, from its overrides to its result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.config.compose import Composer, asks_for_sweep
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import prepare
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.records.claim import FolderClaim, claim_new_folder
from bbrl_exp.records.summary import Summary, read_summary
from bbrl_exp.runs.console import Terminal, show_start
from bbrl_exp.runs.execution import RunResult, execute
from bbrl_exp.runs.resume import complete_in_words, is_complete, resume_point, wanted_folder
from bbrl_exp.settings import bad_value
from bbrl_exp.text import size_in_words, time_in_words

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent

CONFIG_NAME = "config"


def run(
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    extra_dir: str | os.PathLike[str] | None = None,
    config_name: str = CONFIG_NAME,
) -> RunResult:
    """Runs one experiment, as ``bbrl-exp run`` with these overrides does.

    Args:
        overrides: such as ``["agent=mlp", "env=pendulum", "batch_size=64"]``.
        config_dir: the configuration folder; None for the one of this package.
        extra_dir: your folder of options, as ``--config-dir``.
        config_name: the root file, without ``.yaml``.

    Returns:
        The run's folder and its summary. If the folder holds this run, complete, nothing runs and these are returned.

    Raises:
        ConfigurationError: the configuration cannot be used; nothing was made.
        BbrlExpError: the run failed, ``NonFiniteError`` among others; its folder holds the details.
    """
    with open_composer(config_dir, extra_dir, config_name) as composer:
        config = composer.compose(overrides)
        if asks_for_sweep(config):
            raise ConfigurationError(
                "the configuration describes a sweep (hydra.mode, hydra.sweeper), and this is one run; "
                "bbrl-exp run runs sweeps"
            )
        checked = check(config)
        if checked.root.dry_run:
            raise bad_value("dry_run", True, "false where the result of a run is wanted")
        result = run_one(checked)
    if result.error is not None:
        raise result.error
    return result


def build_graph(
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    extra_dir: str | os.PathLike[str] | None = None,
    config_name: str = CONFIG_NAME,
) -> TemporalAgent:
    """The graph of agents that a configuration describes, ready to be called on a workspace; nothing is made on disk.

    Args:
        overrides: as for ``run``.
        config_dir: as for ``run``.
        extra_dir: as for ``run``.
        config_name: as for ``run``.

    Raises:
        ConfigurationError: the configuration cannot be used.
    """
    with open_composer(config_dir, extra_dir, config_name) as composer:
        checked = check(composer.compose(overrides))
    return prepare(checked).graph


def open_composer(
    config_dir: str | os.PathLike[str] | None = None,
    extra_dir: str | os.PathLike[str] | None = None,
    config_name: str = CONFIG_NAME,
) -> Composer:
    """What composes configurations of a folder, by default of that of this package."""
    folder = default_config_dir() if config_dir is None else Path(config_dir).absolute()
    return Composer(folder, config_name, None if extra_dir is None else Path(extra_dir).absolute())


def run_or_show(run: CheckedRun) -> int:
    """Runs one experiment, or with ``dry_run=true`` only shows it; gives the exit code.

    Raises:
        ConfigurationError: the configuration cannot be used; nothing was made.
    """
    if not run.root.dry_run:
        return run_one(run).exit_code
    folder = wanted_folder(run)
    is_chosen = run.is_named or folder != run.run_dir
    if is_chosen and is_complete(folder, run):
        Terminal().line(complete_in_words(folder))
    else:
        _show(run, folder, is_chosen=is_chosen)
    return 0


def _show(run: CheckedRun, folder: Path, *, is_chosen: bool) -> None:
    """Prints what the run would print at its start, and about how long it will take; makes nothing."""
    from bbrl_exp.runs.estimate import MEASURED_SECONDS, MeasurementFailure, measure
    from bbrl_exp.runs.job_host import JobHost

    terminal = Terminal()
    with prepare(run) as prepared:
        if is_chosen:
            is_complete(folder, prepared.run)  # only now its schedules are known, which may not be extended
        show_start(terminal, prepared, folder)
    estimate = measure(run, JobHost())
    if isinstance(estimate, MeasurementFailure):
        raise BbrlExpError(f"the run failed while its speed was measured: {estimate.error}")
    if estimate is None:
        terminal.line(f"  {'time':<19}unknown: no step was done while it was measured")
    else:
        seconds = run.size.env_steps / estimate.steps_per_second
        terminal.line(
            f"  {'time':<19}about {time_in_words(seconds)} at {estimate.steps_per_second:,.0f} steps/s, "
            f"measured for {MEASURED_SECONDS:g} s, evaluations left out"
        )
        n_bytes = run.size.env_steps * estimate.bytes_per_step
        terminal.line(f"  {'disk':<19}at most about {size_in_words(n_bytes)}, checkpoints left out")
    terminal.line("dry run: nothing was made")


def run_one(run: CheckedRun) -> RunResult:
    """Runs one experiment in its folder.

    Raises:
        ConfigurationError: the configuration cannot be used; nothing was made.
    """
    if (launcher := run.choices["launcher"]) not in (None, "local"):
        raise ConfigurationError(f"key 'launcher' = '{launcher}': a launcher needs a sweep, written with -m")
    wanted = wanted_folder(run)
    with prepare(run) as prepared:
        run = prepared.run
        is_chosen = run.is_named or wanted != run.run_dir
        with FolderClaim(wanted) if is_chosen else claim_new_folder(wanted) as claim:
            if is_complete(claim.folder, run):
                Terminal().line(complete_in_words(wanted))
                return RunResult(wanted, Summary.of(read_summary(wanted) or {}))
            return execute(prepared, claim.folder, resume_point(claim.folder, run))
