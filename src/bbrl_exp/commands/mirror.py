"""The command ``mirror``."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from bbrl_exp.commands.parsing import CommandParser, exit_code_of
from bbrl_exp.errors import BbrlExpError

_TRACKERS = ("wandb", "trackio")
_PATIENCE_SECONDS = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Sends what a tracker does not have yet of runs, finished or not; gives the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    parser = CommandParser("mirror", description="Sends the records of runs to a tracker, each record once.")
    parser.add_argument(
        "folders", nargs="+", metavar="folder", type=Path, help="a run, a sweep, or a folder above them"
    )
    parser.add_argument(
        "--to", required=True, choices=_TRACKERS, help="the tracker; its environment variables configure it"
    )
    parser.add_argument(
        "--project", help="project of the tracker; default: that of the run, else the tracker's default"
    )
    left = "interrupted; another mirror sends what is left"
    return exit_code_of(lambda: _mirror(parser.parse_args(arguments)), left)


def _mirror(args: argparse.Namespace) -> int:
    from bbrl_exp.reports.run_folder import find_runs
    from bbrl_exp.tracking.console import PlainConsole
    from bbrl_exp.tracking.mirror import TRACKERS, LocalRun
    from bbrl_exp.tracking.remote import InUseError

    TRACKERS[args.to]()
    folders, problems = find_runs(args.folders)
    code = 0
    for folder in folders:
        try:
            run = LocalRun.read(folder, PlainConsole(io.StringIO()))
            sink = TRACKERS[args.to](args.project or run.project(args.to))
            with _said_after(_PATIENCE_SECONDS, f"{folder}: still sending; Ctrl-C stops it\n"):
                run.hand_to(sink)
        except InUseError as error:
            sys.stdout.write(f"{folder}: {error}\n")
        except BbrlExpError as error:
            sys.stderr.write(f"error: {folder}: {' '.join(str(error).split())}\n")
            code = code or error.exit_code
        else:
            numbers, pictures = sink.sent
            what = (
                f"{numbers:,} numbers and {pictures} picture{'s' * (pictures != 1)} sent"
                if numbers or pictures
                else "nothing new"
            )
            sys.stdout.write(f"{folder}: {what}; {sink.where}\n")
    for problem in problems:
        sys.stdout.write(f"not a run: {problem.folder}: {problem.words}\n")
    return code


@contextlib.contextmanager
def _said_after(seconds: float, text: str) -> Iterator[None]:
    """Prints a text on standard error if what is done in it takes longer."""
    timer = threading.Timer(seconds, lambda: sys.stderr.write(text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
