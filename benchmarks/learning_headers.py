"""The headers of ``conf/experiment``: what a pair does, by its author, and what it returns, by the records."""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Sequence

from learning_records import EVALUATIONS, FINAL_EPISODES, Record
from learning_statistics import bootstrap_interval, extra_decimals, interquartile_mean

MARK = "Expected return"
_WIDTH = 118
_PACKAGE = "# @package _global_"


def expectation(pair: str, records: Sequence[Record], total_steps: int | None = None) -> list[str]:
    """The lines that the records of one pair stand for, without the sign of a comment.

    Args:
        pair: the experiment.
        records: of this project, one per seed; none where it was never run.
        total_steps: environment steps of the experiment; None where it does not say.
    """
    command = ["", f"    OMP_NUM_THREADS=1 python benchmarks/learning.py {pair}"]
    if not records:
        return [f"{MARK}: not measured yet; it would be by", *command]
    finals = [record.final for record in records]
    lower, upper = bootstrap_interval(finals)
    seeds = ", ".join(str(record.seed) for record in sorted(records, key=lambda record: record.seed))
    cpu_seconds = statistics.mean(record.cpu_seconds for record in records)
    curve = statistics.mean(record.curve_mean for record in records)
    is_whole = total_steps is None or records[0].env_steps >= total_steps
    env_steps = f"{records[0].env_steps:,}" if is_whole else f"the first {records[0].env_steps:,} of {total_steps:,}"
    more = extra_decimals(finals)
    middle = float(interquartile_mean(finals))
    text = (
        f"{MARK}: {middle:.{1 + more}f}, 95 % interval {lower:.{1 + more}f} to {upper:.{1 + more}f} (interquartile "
        f"mean over the seeds {seeds}; last policy, {FINAL_EPISODES} episodes) after {env_steps} "
        f"environment steps, which take {cpu_seconds:.0f} CPU seconds per seed. Mean of the {EVALUATIONS} evaluations "
        f"along the way: {curve:.{more}f}. Measured by"
    )
    return [*textwrap.wrap(text, _WIDTH), *command]


def with_expectation(yaml: str, pair: str, records: Sequence[Record]) -> str:
    """A file of ``conf/experiment`` with the newest numbers in its header; the description before them stays.

    Args:
        yaml: the file's contents, which begin with comments.
        pair: the experiment.
        records: one per seed.
    """
    lines = yaml.splitlines()
    n_comments = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    description = []
    for line in lines[1:n_comments]:
        if MARK in line:
            break
        description.append(line)
    stated = re.search(r"^total_steps: (\d[\d_]*)", yaml, re.MULTILINE)
    total_steps = int(stated[1]) if stated else None
    said = [f"# {line}".rstrip() for line in expectation(pair, records, total_steps)]
    return "\n".join([_PACKAGE, *description, *said, *lines[n_comments:]]) + "\n"
