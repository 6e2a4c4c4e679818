"""The command ``run``: one run, a sweep or a search, or what only prints."""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import hydra

from bbrl_exp.commands.help import help_text
from bbrl_exp.commands.parsing import CommandParser, exit_code_of, version_line
from bbrl_exp.config.check import check
from bbrl_exp.config.compose import VERSION_BASE, Composer, SeveralValuesError, asks_for_sweep, register, resolve
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.overrides import parse
from bbrl_exp.config.project import own_config_dir
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.runs.run import CONFIG_NAME, open_composer, run_or_show

_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Errors of the user are one line on standard error.

    Args:
        arguments: without the program's name; None for those of the process.

    Returns:
        The exit code: 0 done, 2 bad configuration or input, 3 non-finite values, 128+n stopped by signal n, 1 else.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    return exit_code_of(lambda: _command(given), "interrupted before the run began")


def _parser() -> CommandParser:
    parser = CommandParser("run", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--run", "-r", action="store_true")
    parser.add_argument("--config-path", "-cp", type=Path)
    parser.add_argument("--config-name", "-cn", default=CONFIG_NAME)
    parser.add_argument("--config-dir", "-cd", type=Path)
    # What only prints, all of it Hydra's own work.
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--package", "-p")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=_INFO)
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--version", action="store_true")
    return parser


def _command(given: Sequence[str]) -> int:
    args, unknown = _parser().parse_known_intermixed_args(given)
    if unknown:
        raise ConfigurationError(
            f"option '{unknown[0]}' is not known: what a run takes has no dashes, such as agent=ppo (see --help)"
        )
    try:
        if args.version:
            sys.stdout.write(version_line())
            return 0
        with open_composer(args.config_path, own_config_dir(args.config_dir), args.config_name) as composer:
            if args.help:
                sys.stdout.write(f"{help_text(composer.groups(), resolve(composer.compose([])))}\n")
                return 0
            if args.cfg or args.info or args.hydra_help or args.shell_completion:
                return _show(composer, args, given)
            return _dispatch(composer, args)
    except BbrlExpError:
        if any(text.lstrip("+") == "debug=true" for text in args.overrides):
            traceback.print_exc()
        raise


def _dispatch(composer: Composer, args: argparse.Namespace) -> int:
    several: SeveralValuesError | None = None
    if not args.multirun:
        try:
            config = composer.compose(args.overrides)
        except SeveralValuesError as error:
            several = error
        else:
            if args.run or not asks_for_sweep(config):
                return run_or_show(check(config))
    from bbrl_exp.config.sweep_config import SweepConfig
    from bbrl_exp.search.command import search
    from bbrl_exp.sweeps.sweep import run_sweep

    sweep = SweepConfig.of(composer, args.overrides)
    if several is not None and (args.run or not asks_for_sweep(sweep.config)):
        raise several
    return search(composer, sweep) if sweep.is_search else run_sweep(composer, sweep)


def _show(composer: Composer, args: argparse.Namespace, given: Sequence[str]) -> int:
    """What Hydra prints by itself: it parses the command line again."""
    if args.cfg:
        composer.compose(args.overrides)  # refuses what a run would refuse
    composer.folders(parse(args.overrides) if not args.shell_completion else ())
    composer.close()
    register()
    config_dir = args.config_path.absolute() if args.config_path else default_config_dir()
    of_project = [] if args.config_dir or not composer.extra_dir else ["--config-dir", str(composer.extra_dir)]
    # For --hydra-help Hydra sets up the logs that a configuration asks for, and nobody has checked them.
    sys.argv[1:] = ["--hydra-help"] if args.hydra_help else [*of_project, *given]
    show = hydra.main(version_base=VERSION_BASE, config_path=str(config_dir), config_name=args.config_name)(_nothing)
    with contextlib.suppress(SystemExit):
        show()
    return 0


def _nothing(config: object) -> None:
    """The task function where Hydra only prints."""
