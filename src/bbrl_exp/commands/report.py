"""The command ``report``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bbrl_exp.commands.parsing import CommandParser, exit_code_of
from bbrl_exp.errors import ConfigurationError

FOLDER = "report"


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a report over the runs below folders, and prints where it is; gives the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    return exit_code_of(lambda: _report(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser("report", description="Compares the settings of sweeps and runs, with their uncertainty.")
    parser.add_argument(
        "folders", nargs="+", metavar="folder", type=Path, help="a sweep, a run, or a folder above them"
    )
    parser.add_argument(
        "--by",
        nargs="+",
        action="extend",
        metavar="KEY",
        help="keys that distinguish settings, such as agent batch_size; default: found from what differs",
    )
    parser.add_argument(
        "--metric",
        help="a number of summary.json, or a name in metrics.csv; default: eval_return_mean, or else return_mean",
    )
    parser.add_argument("--lower-is-better", action="store_true", help="lower values of the metric are better")
    parser.add_argument(
        "--threshold",
        nargs="+",
        action="extend",
        metavar="[ENV=]RETURN",
        help="return whose cost in environment steps is reported, such as 475 or cartpole=475",
    )
    parser.add_argument(
        "--normalize",
        nargs="+",
        action="extend",
        metavar="ENV=LOW:HIGH",
        help="returns that count as 0 and 1 when environments are combined; default: those of the worst and the best "
        "setting; 'none': do not combine environments",
    )
    parser.add_argument(
        "--baseline", metavar="SETTING", help="the setting to compare with, such as 'agent=random'; default: the best"
    )
    parser.add_argument("--out", type=Path, help=f"folder for the report; default: '{FOLDER}' in the first folder")
    return parser


def _report(args: argparse.Namespace) -> int:
    from bbrl_exp.reports.assembly import make_report
    from bbrl_exp.reports.contents import Options
    from bbrl_exp.reports.page import write_report
    from bbrl_exp.reports.run_folder import find_runs, read_run

    is_raw = args.normalize == ["none"]
    options = Options(
        by=tuple(args.by) if args.by else None,
        metric=args.metric,
        lower_is_better=args.lower_is_better,
        thresholds=dict(_threshold(text) for text in args.threshold or ()),
        bounds=dict(_bounds(text) for text in args.normalize) if args.normalize and not is_raw else None,
        is_raw=is_raw,
        baseline=args.baseline,
    )
    folders, problems = find_runs(args.folders)
    out = args.out or args.folders[0] / FOLDER
    report = make_report([read_run(folder) for folder in folders], problems, options)
    title = ", ".join(os.path.basename(os.path.realpath(folder)) for folder in args.folders)
    page = write_report(report, title, out)
    counted = sum(line.counts for line in report.lines)
    uncounted = [line for line in report.lines if not line.counts]
    lines = [
        f"{counted} of {len(report.lines)} runs compared by {report.metric}, {len(report.best_first)} settings",
        *(f"{line.folder}: {line.course}" for line in report.lines if line.course),
        *(f"{line.status}: {line.folder}: {line.words}" for line in uncounted),
        *(f"not a run: {problem.folder}: {problem.words}" for problem in problems),
        f"report: {page}",
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    return name, _number("--threshold", text, value)


def _bounds(text: str) -> tuple[str, tuple[float, float]]:
    name, _, ends = text.rpartition("=")
    low, sign, high = ends.partition(":")
    if not name or not sign:
        raise ConfigurationError(f"--normalize '{text}': should be ENV=LOW:HIGH, as cartpole=22:500, or none alone")
    bounds = _number("--normalize", text, low), _number("--normalize", text, high)
    if bounds[0] == bounds[1]:
        raise ConfigurationError(f"--normalize '{text}': low and high are equal")
    return name, bounds


def _number(option: str, text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigurationError(f"{option} '{text}': '{value}' is not a number")
    return number
