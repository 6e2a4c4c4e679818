"""The number by which runs are compared, and settings compared by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.metrics import is_usable
from bbrl_exp.reports.grouping import Groups
from bbrl_exp.reports.run_folder import Run
from bbrl_exp.reports.statistics import (
    Array,
    Estimate,
    Strata,
    counts,
    draw,
    estimate,
    has_interval,
    interval,
    mean,
    median,
    pooled_interquartile_mean,
    probability_of_improvement,
    resampled_improvement,
)

MEASURED = "eval_return_mean"
TRAINED = "return_mean"


@dataclass(frozen=True)
class Row:
    """A setting in a table.

    Attributes:
        scores: one array per environment, in the order in which they were given.
        iqm: interquartile mean.
        mean: mean of the environments' means.
        median: median of the environments' means; of one environment, of its runs.
    """

    setting: str
    scores: Strata
    n_seeds: int
    iqm: Estimate
    mean: Estimate
    median: Estimate

    @property
    def n_runs(self) -> int:
        """How many runs there are, all environments together."""
        return sum(len(scores) for scores in self.scores)


@dataclass(frozen=True)
class Table:
    """Settings compared on the same environments, the best first.

    Attributes:
        name: of the environment; ``all`` for several.
        rows: the settings that have a score in each of them.
        missing: setting → environments in which it has none.
    """

    name: str
    rows: tuple[Row, ...]
    missing: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Improvement:
    """How probable it is that a run of ``one`` does better than a run of ``other``, over the environments of both."""

    one: str
    other: str
    n_environments: int
    probability: Estimate


@dataclass(frozen=True)
class Scored:
    """A run that counts: its place, and its score."""

    setting: str
    environment: str
    seed: int | None
    score: float


def choose_metric(runs: Sequence[Run], asked: str | None) -> str:
    """The metric asked for; else the last policy's evaluation where half of the runs have it, else training returns.

    Raises:
        ConfigurationError: no run has the metric that was asked for.
    """
    if asked is None:
        n_measured, n_trained = (sum(score_of(run, key) is not None for run in runs) for key in (MEASURED, TRAINED))
        return MEASURED if n_measured and 2 * n_measured >= n_trained else TRAINED
    known = {key for run in runs for key in run.numbers} | {key for run in runs for key in run.metrics.last}
    if asked not in known:
        raise ConfigurationError(f"--metric '{asked}': no run has it{did_you_mean(asked, known)}")
    return asked


def score_of(run: Run, metric: str) -> float | None:
    """A number of the summary, or the last value of that name in ``metrics.csv``; None where there is no finite one."""
    if metric in run.numbers:
        return run.numbers[metric]
    value = run.metrics.last.get(metric, math.nan)
    return value if is_usable(value) else None


def compare(
    scored: Sequence[Scored], groups: Groups, name: str, environments: Sequence[str], *, lower_is_better: bool
) -> Table:
    """Compares settings on ``environments``, one stratum each, by the runs that count."""
    rows = []
    missing = {}
    for setting in groups.settings:
        of = [run for run in scored if run.setting == setting]
        strata = [np.array([run.score for run in of if run.environment == environment]) for environment in environments]
        lacking = tuple(env for env, scores in zip(environments, strata, strict=True) if not len(scores))
        if lacking:
            missing[setting] = lacking
            continue
        drawn = draw(strata, setting)
        seeds = {run.seed for run in of if run.environment in environments}
        estimates = (estimate(statistic, strata, drawn) for statistic in (pooled_interquartile_mean, mean, median))
        rows.append(Row(setting, tuple(strata), len(seeds), *estimates))
    rows.sort(key=lambda row: row.iqm.value if lower_is_better else -row.iqm.value)
    return Table(name, tuple(rows), missing)


def normalize(scored: Sequence[Scored], bounds: Mapping[str, tuple[float, float]]) -> list[Scored]:
    """Scores of which ``bounds``, low and high, are 0 and 1 in each environment."""
    normalized = []
    for run in scored:
        low, high = bounds[run.environment]
        normalized.append(Scored(run.setting, run.environment, run.seed, (run.score - low) / (high - low)))
    return normalized


def bounds_of(tables: Sequence[Table]) -> dict[str, tuple[float, float]] | None:
    """The lowest and the highest mean of a setting in each environment; None where they are the same in one."""
    bounds = {}
    for table in tables:
        means = [row.mean.value for row in table.rows]
        if len(set(means)) < 2:
            return None
        bounds[table.name] = min(means), max(means)
    return bounds


def improvements(tables: Sequence[Table], settings: Sequence[str], *, lower_is_better: bool) -> list[Improvement]:
    """The probability of improvement of each setting over each other, on the environments that both have.

    Args:
        tables: one per environment, scores as they are: the probability does not depend on their scale.
        settings: names, in order.
        lower_is_better: which run does better.
    """
    scores: dict[str, dict[str, Array]] = {name: {} for name in settings}
    for table in tables:
        for row in table.rows:
            scores[row.setting][table.name] = -row.scores[0] if lower_is_better else row.scores[0]
    drawn = {
        name: dict(zip(of, map(counts, draw(list(of.values()), name)), strict=True)) for name, of in scores.items()
    }
    found = []
    for index, one in enumerate(settings):
        for other in settings[index + 1 :]:
            both = [environment for environment in scores[one] if environment in scores[other]]
            if not both:
                continue
            x, y = ([scores[name][environment] for environment in both] for name in (one, other))
            value = probability_of_improvement(x, y)
            forth, back = Estimate(value), Estimate(1 - value)
            if has_interval(x) and has_interval(y):
                x_counts, y_counts = ([drawn[name][environment] for environment in both] for name in (one, other))
                lower, upper = (float(end) for end in interval(resampled_improvement(x, y, x_counts, y_counts)))
                forth, back = Estimate(value, lower, upper), Estimate(1 - value, 1 - upper, 1 - lower)
            found += [Improvement(one, other, len(both), forth), Improvement(other, one, len(both), back)]
    return found
