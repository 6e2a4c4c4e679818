"""One run or one sweep: ``main`` for the command line, ``run`` and ``build_graph`` from Python."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bbrl_exp.app.compose import Composer, is_named, quoted, register_resolvers, resolve
from bbrl_exp.app.config_folder import default_config_dir
from bbrl_exp.app.folder import FolderClaim, claim_new_folder
from bbrl_exp.app.help import help_text
from bbrl_exp.app.report import Terminal
from bbrl_exp.app.schema import bad_value
from bbrl_exp.app.trial import task_overrides
from bbrl_exp.command_line import exit_code_of
from bbrl_exp.errors import BbrlExpError, ConfigurationError

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.app.job import RunResult

_CONFIG_NAME = "config"


def run(
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    extra_dir: str | os.PathLike[str] | None = None,
    config_name: str = _CONFIG_NAME,
) -> RunResult:
    """Runs one experiment, as ``python scripts/run.py`` with these overrides does.

    Args:
        overrides: ``["agent=mlp", "env=pendulum", "batch_size=64"]``.
        config_dir: the configuration folder; None for the one of the checkout.
        extra_dir: a folder of options of your own, as ``--config-dir``.
        config_name: the root file, without ``.yaml``.

    Returns:
        The run's folder and its summary; those of the run already there where it was complete.

    Raises:
        ConfigurationError: the configuration cannot be used; nothing was made.
        BbrlExpError: the run failed, ``NonFiniteError`` among others; its folder tells more.
    """
    with _composer(config_dir, extra_dir, config_name) as composer:
        result = run_one(composer, overrides)
    if result.error is not None:
        raise result.error
    return result


def build_graph(
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    extra_dir: str | os.PathLike[str] | None = None,
    config_name: str = _CONFIG_NAME,
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
    from bbrl_exp.app.check import check
    from bbrl_exp.app.learner import build_graph_and_learner

    with _composer(config_dir, extra_dir, config_name) as composer:
        checked = check(composer.compose(overrides))
    return build_graph_and_learner(checked.config, checked.written).graph.to(checked.device)


def _composer(
    config_dir: str | os.PathLike[str] | None, extra_dir: str | os.PathLike[str] | None, config_name: str
) -> Composer:
    folder = default_config_dir() if config_dir is None else Path(config_dir).absolute()
    return Composer(folder, config_name, None if extra_dir is None else Path(extra_dir).absolute())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Errors of the user are one line on standard error.

    Args:
        arguments: without the program's name; None for those of the process.

    Returns:
        The exit code: 0 done, 2 bad configuration or input, 3 non-finite numbers, 128+n stopped by signal n, 1 else.
    """
    parser = get_args_parser()
    args, unknown = parser.parse_known_intermixed_args(arguments)
    return exit_code_of(lambda: _command(parser, args, unknown), "interrupted before the run began")


def _command(parser: argparse.ArgumentParser, args: Any, unknown: Sequence[str]) -> int:
    if unknown:
        raise ConfigurationError(
            f"option '{unknown[0]}' is not known: what a run takes has no dashes, such as agent=ppo (see --help)"
        )
    try:
        config_dir = Path(args.config_path).absolute() if args.config_path else default_config_dir()
        with _composer(config_dir, args.config_dir, args.config_name or _CONFIG_NAME) as composer:
            if args.help or args.hydra_help or args.cfg or args.info or args.shell_completion:
                return _show(composer, parser, args, config_dir)
            return _dispatch(composer, args)
    except BbrlExpError:
        if any(text.lstrip("+") == "debug=true" for text in args.overrides):
            traceback.print_exc()
        raise


def _show(composer: Composer, parser: argparse.ArgumentParser, args: Any, config_dir: Path) -> int:
    """What only prints. All but ``--help`` is Hydra's own work."""
    if args.help:
        sys.stdout.write(f"{help_text(composer.groups(), resolve(composer.compose([])))}\n")
        return 0
    composer.check_search_path([] if args.shell_completion else args.overrides)
    if args.cfg:
        composer.compose(args.overrides)
    if args.hydra_help:  # Hydra sets up the logs that its configuration asks for, and nobody has checked them
        args.overrides, args.config_dir = [], None
    args.config_path = str(config_dir)
    composer.close()
    register_resolvers()
    try:
        _run_hydra(
            args=args,
            args_parser=parser,
            task_function=_nothing,
            config_path=str(config_dir),
            config_name=_CONFIG_NAME,
        )
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _nothing(config: DictConfig) -> None:
    """The task function where Hydra only prints."""


def _dispatch(composer: Composer, args: Any) -> int:
    if args.experimental_rerun is not None:
        raise ConfigurationError("--experimental-rerun is not supported: repeat the command in summary.json")
    if args.multirun or composer.asks_for_multirun(args.overrides):
        from bbrl_exp.app.search.command import is_search, search
        from bbrl_exp.app.sweeps.sweep import run_sweep

        master = composer.compose(args.overrides, multirun=True)
        return search(composer, master, args.overrides) if is_search(master) else run_sweep(composer, args.overrides)
    return run_or_show(composer, args.overrides)


def run_or_show(composer: Composer, overrides: Sequence[str]) -> int:
    """Runs one experiment, or with ``dry_run=true`` only checks and shows it; gives the exit code.

    Args:
        composer: of its configuration.
        overrides: as for ``run``.

    Raises:
        ConfigurationError: the configuration cannot be used; nothing was made.
    """
    config = composer.compose(overrides)
    if config.dry_run is True:
        return _show_run(config)
    return run_one(composer, overrides).exit_code


def _show_run(config: DictConfig) -> int:
    from bbrl_exp.app.check import check
    from bbrl_exp.app.dry_run import show_run
    from bbrl_exp.app.resume import is_complete, wanted_folder

    checked = check(config)
    folder = wanted_folder(checked, Path(config.hydra.run.dir).absolute())
    if is_named(config, "run") and is_complete(folder, checked):
        Terminal().line(f"already complete\nfolder: {folder}")
    else:
        show_run(config, checked, folder)
    return 0


def run_one(composer: Composer, overrides: Sequence[str]) -> RunResult:
    """Runs one experiment in its folder.

    Args:
        composer: of its configuration.
        overrides: as for ``run``.

    Raises:
        ConfigurationError: the configuration cannot be used; nothing was made.
    """
    from bbrl_exp.app.check import check
    from bbrl_exp.app.job import RunResult, execute
    from bbrl_exp.app.resume import is_complete, standing, wanted_folder
    from bbrl_exp.app.search.command import is_search
    from bbrl_exp.app.summary import Summary, read_summary

    config = composer.compose(overrides)
    if is_search(config):
        raise ConfigurationError("key 'hydra/sweeper' = 'optuna': a search is a sweep, written with -m")
    checked = check(config)
    if (launcher := config.hydra.runtime.choices.get("launcher")) not in (None, "local"):
        raise ConfigurationError(f"key 'launcher' = '{launcher}': launchers are of sweeps, which are written with -m")
    if checked.root.dry_run:
        raise bad_value("dry_run", True, "false where the result of a run is wanted")
    default = Path(config.hydra.run.dir).absolute()
    wanted = wanted_folder(checked, default)
    results: list[RunResult] = []

    def task(_: DictConfig) -> None:
        results.append(execute(checked, claim.folder, task_overrides(HydraConfig.get()), before))

    is_chosen = is_named(config, "run") or wanted != default
    with FolderClaim(wanted) if is_chosen else claim_new_folder(wanted) as claim:
        if is_complete(claim.folder, checked):
            Terminal().line(f"already complete\nfolder: {wanted}")
            return RunResult(wanted, Summary.of(read_summary(wanted) or {}))
        before = standing(claim.folder, checked)
        composer.launch(task, [*overrides, f"hydra.run.dir={quoted(str(claim.folder))}"])
    return results[0]
