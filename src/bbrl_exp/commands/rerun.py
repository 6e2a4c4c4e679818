"""The command ``rerun``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bbrl_exp.commands.parsing import CommandParser, exit_code_of
from bbrl_exp.config.check import check
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.past_run import PastRun
from bbrl_exp.config.project import own_config_dir
from bbrl_exp.runs.console import Terminal
from bbrl_exp.runs.run import run_or_show


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a run again, with its own configuration but for the overrides given; gives the exit code of a run.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = CommandParser(
        "rerun",
        description="Repeats a run in a new folder, with its saved configuration, whatever conf/ says today.",
    )
    parser.add_argument("run_folder", type=Path, help="folder of the run, such as outputs/mine, or of a sweep's job")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="folder of your own options, as for run")
    parser.add_argument("overrides", nargs="*", help="what to change, such as seed=1 agent.learner.discount=0.9")
    return exit_code_of(lambda: _rerun(parser.parse_intermixed_args(arguments)), "interrupted before the run began")


def _rerun(args: argparse.Namespace) -> int:
    config_dir = default_config_dir()
    past = PastRun.read(args.run_folder).with_added_keys(config_dir)
    with tempfile.TemporaryDirectory() as place:
        past.write_options(Path(place), config_dir)
        with Composer(Path(place), extra_dir=own_config_dir(args.config_dir)) as composer:
            config = composer.compose(past.overrides_with(args.overrides))
            Terminal().line(past.differences(config))
            return run_or_show(check(config))
