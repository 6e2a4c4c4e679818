"""The table of learning results: this project's tuned pairs, and the peer on the same budget below each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from learning_records import EVALUATION_EPISODES, EVALUATIONS, FINAL_EPISODES, SHORTENED, THRESHOLDS, Record, env_of
from learning_statistics import bootstrap_interval, extra_decimals, interquartile_mean, steps_to_threshold

_COLUMNS = (
    "pair",
    "who",
    "env steps",
    "seeds",
    "final, IQM [95 %]",
    "finals",
    "curve",
    "threshold",
    "steps to threshold",
    "CPU s",
)
_LEGEND = f"""\
* **env steps**: the whole budget of the experiment, but of {", ".join(SHORTENED).replace("_", " ")}, which would take \
hours a seed, the first steps of a million.
* **final**: the last policy, deterministic, mean of {FINAL_EPISODES} episodes from one fixed list of starts, the same \
for all rows of a pair; IQM: interquartile mean over the seeds, and its 95 % percentile bootstrap interval. Of fewer \
than five seeds the interval is hardly more than the range, and of fewer than four the IQM is the mean.
* **starts**: SAC and recurrent SAC on Pendulum were evaluated from another list of starts than the other pairs there, \
one from which a good policy gets about 30 less. Compare the rows of one pair.
* **curve**: mean of the {EVALUATIONS} evaluations of {EVALUATION_EPISODES} episodes along training, ± standard \
deviation over seeds.
* **steps to threshold**: of the first of these evaluations at or above the threshold, seed by seed; – never.
* **CPU s**: mean of the whole process on one thread, start-up, evaluations and default tracking included. Rows were \
measured at different times, next to different loads, which change this number by a factor of two: speeds are compared \
in training.md, by contestants that take turns.
"""


def thousands(env_steps: int | None) -> str:
    """``17500`` as ``17.5k``; ``–`` for None."""
    return "–" if env_steps is None else f"{env_steps / 1000:.3g}k"


def row(records: Sequence[Record]) -> str:
    """The line of one pair and one implementation, from a record a seed."""
    pair = records[0].pair
    finals = [record.final for record in records]
    curves = [record.curve_mean for record in records]
    threshold = THRESHOLDS[env_of(pair)]
    lower, upper = bootstrap_interval(finals)
    more = extra_decimals(finals)
    spread = f" ± {statistics.stdev(curves):.{more}f}" if len(curves) > 1 else ""
    hits = [steps_to_threshold(record.curve, threshold) for record in records]
    versions = sorted({record.version for record in records})
    cells = (
        pair.replace("_", " "),
        f"{records[0].implementation} {', '.join(versions)}",
        ", ".join(sorted({f"{record.env_steps:,}" for record in records})),
        str(len(records)),
        f"{float(interquartile_mean(finals)):.{1 + more}f} [{lower:.{1 + more}f}, {upper:.{1 + more}f}]",
        ", ".join(f"{final:.{more}f}" for final in finals),
        f"{statistics.mean(curves):.{more}f}{spread}",
        f"{threshold:g}",
        ", ".join(thousands(hit) for hit in hits),
        f"{statistics.mean(record.cpu_seconds for record in records):.0f}",
    )
    return f"| {' | '.join(cells)} |"


def rows(records: Mapping[tuple[str, str, int], Record]) -> str:
    """The table of some records, environment by environment; below each pair the peer that ran it."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for _, record in sorted(records.items()):
        groups.setdefault((record.pair, record.implementation), []).append(record)
    environments = list(THRESHOLDS)
    order = sorted(groups, key=lambda key: (environments.index(env_of(key[0])), key))
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|", *(row(groups[key]) for key in order)]
    return "\n".join(lines)


def table(records: Mapping[tuple[str, str, int], Record]) -> str:
    """All pairs, and what the columns are."""
    return f"{rows(records)}\n\n{_LEGEND}"
