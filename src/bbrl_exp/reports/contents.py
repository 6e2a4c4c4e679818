"""All that a report says, computed once; the page, the tables and the pictures only show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bbrl_exp.reports.courses import Course
from bbrl_exp.reports.curves import Curve, Efficiency
from bbrl_exp.reports.grouping import Groups
from bbrl_exp.reports.run_folder import Problem
from bbrl_exp.reports.scores import Improvement, Table

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Options:
    """What a report is asked for.

    Attributes:
        by: keys that distinguish settings; None: found from what differs.
        metric: None: the last policy's evaluation, or training returns.
        lower_is_better: for a metric of which less is more.
        thresholds: environment → return, ``""`` for all others; those left out are chosen from the curves.
        bounds: environment → the scores that are 0 and 1; None: the worst and the best setting's mean.
        is_raw: scores of several environments are not aggregated.
        baseline: the setting to compare with; None: the best.
    """

    by: tuple[str, ...] | None = None
    metric: str | None = None
    lower_is_better: bool = False
    thresholds: Mapping[str, float] | None = None
    bounds: Bounds | None = None
    is_raw: bool = False
    baseline: str | None = None


@dataclass(frozen=True)
class Line:
    """A run as it is listed.

    Attributes:
        status: that of the run, ``damaged``, or ``repeat``.
        words: why it does not count, or what is wrong with its files.
        course: what is special about a run that counts: it stopped early, was extended, or is judged otherwise.
        counts: whether its score is among those compared.
        side_by_side_with: jobs beside which it was trained, of whose speed its own is a share; None for none.
    """

    folder: Path
    status: str
    words: str
    setting: str | None = None
    environment: str | None = None
    seed: int | None = None
    score: float | None = None
    steps_per_second: float | None = None
    wall_seconds: float | None = None
    env_steps: float | None = None
    counts: bool = False
    course: str = ""
    side_by_side_with: int | None = None


@dataclass(frozen=True)
class Speed:
    """How fast the runs of a setting were: medians, with the slowest and the fastest.

    Attributes:
        side_by_side: of the runs that were trained side by side, beside how many others.
    """

    setting: str
    environment: str
    n_runs: int
    steps_per_second: tuple[float, float, float] | None
    wall_seconds: tuple[float, float, float] | None
    side_by_side: tuple[int, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes:
        tables: one per environment, scores as they are.
        aggregate: over all environments, of normalised scores; None for one environment, or if there is none.
        aggregate_words: how scores were normalised, or why there is no aggregate.
        bounds: the scores that are 0 and 1; None where nothing is normalised.
        best_first: names of the settings that have a score: those of the aggregate first, the best first.
        reference: the setting that pictures compare with; None where there are fewer than two.
        source: of the curves, a name in ``metrics.csv``.
        curves: one per setting and environment, as ``efficiencies`` and ``speeds``.
        thresholds: environment → return.
        chosen_thresholds: environments whose threshold was chosen from the curves.
        courses: how the runs of each setting went, in each environment.
        problems: what is not a run.
        is_mixed: commit or versions differ between runs that count.
    """

    metric: str
    lower_is_better: bool
    groups: Groups
    tables: tuple[Table, ...]
    aggregate: Table | None
    aggregate_words: str
    bounds: Bounds | None
    best_first: tuple[str, ...]
    improvements: tuple[Improvement, ...]
    reference: str | None
    source: str
    curves: tuple[Curve, ...]
    efficiencies: tuple[Efficiency, ...]
    thresholds: Mapping[str, float]
    chosen_thresholds: tuple[str, ...]
    speeds: tuple[Speed, ...]
    courses: tuple[Course, ...]
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    is_mixed: bool
