"""The command ``check-memory``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bbrl_exp.commands.parsing import CommandParser, exit_code_of
from bbrl_exp.config.project import own_config_dir
from bbrl_exp.errors import ConfigurationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks the memory of an agent and prints a table; gives the exit code: 0 all passed, 1 a check failed.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = CommandParser("check-memory", description="Checks whether an agent remembers correctly; writes nothing.")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for run: agent=recurrent_ppo env=…")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="folder of your own options, as for run")
    return exit_code_of(lambda: _check(parser.parse_intermixed_args(arguments)))


def _check(args: argparse.Namespace) -> int:
    from bbrl_exp.config.check import check
    from bbrl_exp.config.compose import SeveralValuesError
    from bbrl_exp.runs.run import open_composer
    from bbrl_exp.testing.memory import report_on_run

    with open_composer(extra_dir=own_config_dir(args.config_dir)) as composer:
        try:
            config = composer.compose(args.overrides)
        except SeveralValuesError as error:
            given = str(error).partition(": several values")[0]
            raise ConfigurationError(f"{given}: several values; check-memory checks one agent at a time") from None
        report = report_on_run(check(config))
    sys.stdout.write(f"{report}\n")
    return 0 if report.passed else 1
