"""Learning curves over runs, and the environment steps that a return costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bbrl_exp.functional.statistics import interquartile_mean
from bbrl_exp.records.metrics import EVALUATIONS, TRAINING_RETURNS, Series
from bbrl_exp.reports.run_folder import Run
from bbrl_exp.reports.statistics import Array, Estimate, draw, has_interval, interval

WINDOW = 100
FIRST_EPISODE = 10
_MOST_POINTS = 100
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Curve:
    """A setting's curve in an environment: interquartile mean over runs, with its pointwise interval; each ``[X]``.

    A single run has no interval.
    """

    setting: str
    environment: str
    n_runs: int
    env_steps: Array
    center: Array
    lower: Array | None
    upper: Array | None


@dataclass(frozen=True)
class Efficiency:
    """Environment steps until a setting's runs reach a return.

    Attributes:
        steps: ``[N]``, of each run, infinite where it never does; in rising order.
        median: over runs, with its interval.
        budget: environment steps of the longest run.
    """

    setting: str
    environment: str
    threshold: float
    steps: Array
    median: Estimate
    budget: float

    @property
    def n_reached(self) -> int:
        """How many runs reach it."""
        return int(np.isfinite(self.steps).sum())


def choose_source(runs: Sequence[Run]) -> str:
    """Evaluations where every run that has a curve at all has them, else the returns of training episodes."""
    with_curve = [run for run in runs if run.metrics.series]
    return EVALUATIONS if all(EVALUATIONS in run.metrics.series for run in with_curve) else TRAINING_RETURNS


def series_of(run: Run, source: str) -> Series | None:
    """The curve of one run: its evaluations, or the mean of the last 100 training episodes from the tenth on."""
    series = run.metrics.series.get(source)
    if series is None or source == EVALUATIONS:
        return series
    total = np.concatenate([[0.0], np.cumsum(series.values)])
    ends = np.arange(FIRST_EPISODE, len(series.values) + 1)
    if not len(ends):
        return None
    starts = np.maximum(ends - WINDOW, 0)
    return Series(series.env_steps[ends - 1], (total[ends] - total[starts]) / (ends - starts))


def curve_of(setting: str, environment: str, series: Sequence[Series]) -> Curve:
    """The curve of a setting, whose runs have one of ``series`` each.

    Runs that were measured at the same steps are taken as they are; others are interpolated, over the steps that all
    have.
    """
    grid = _grid(series)
    values = list(np.stack([np.interp(grid, run.env_steps, run.values) for run in series], axis=1))
    center = np.array([float(interquartile_mean(of)) for of in values])
    lower = upper = None
    if has_interval(values[:1]):
        drawn = draw(values[:1], setting)[0][:_RESAMPLES]
        ends = [interval(interquartile_mean(of[drawn])) for of in values]
        lower, upper = (np.array(side, np.float64) for side in zip(*ends, strict=True))
    return Curve(setting, environment, len(series), grid, center, lower, upper)


def default_thresholds(curves: Sequence[Curve]) -> dict[str, float]:
    """Nine tenths of the way from the lowest first to the highest last point of the curves, rounded to three digits.

    Environments in which nothing is learned are left out.
    """
    thresholds = {}
    for environment in dict.fromkeys(curve.environment for curve in curves):
        of = [curve for curve in curves if curve.environment == environment]
        low, high = min(float(curve.center[0]) for curve in of), max(float(curve.center[-1]) for curve in of)
        if high > low:
            thresholds[environment] = float(f"{low + 0.9 * (high - low):.3g}")
    return thresholds


def efficiency_of(setting: str, environment: str, series: Sequence[Series], threshold: float) -> Efficiency:
    """Environment steps of the first point of each run's curve at or above ``threshold``."""
    steps = np.sort([_first(run, threshold) for run in series])
    middle = float(_median(steps))
    median = Estimate(middle)
    if has_interval([steps]):
        medians = np.sort(_median(steps[draw([steps], setting)[0][:_RESAMPLES]]))
        n_cut = math.floor(0.025 * len(medians))
        median = Estimate(middle, float(medians[n_cut]), float(medians[-1 - n_cut]))
    budget = max(float(run.env_steps[-1]) for run in series)
    return Efficiency(setting, environment, threshold, steps, median, budget)


def by_place(
    runs: Sequence[Run], places: Sequence[tuple[str, str]], source: str
) -> Mapping[tuple[str, str], tuple[Series, ...]]:
    """The curves of the runs of each (setting, environment); runs without one are left out."""
    found: dict[tuple[str, str], list[Series]] = {}
    for run, place in zip(runs, places, strict=True):
        series = series_of(run, source)
        if series is not None:
            found.setdefault(place, []).append(series)
    return {place: tuple(of) for place, of in found.items()}


def _grid(series: Sequence[Series]) -> Array:
    first = series[0].env_steps
    if all(np.array_equal(first, run.env_steps) for run in series):
        points = first
    else:
        start, end = max(run.env_steps[0] for run in series), min(run.env_steps[-1] for run in series)
        every = np.unique(np.concatenate([run.env_steps for run in series]))
        points = every[(start <= every) & (every <= end)]
        points = points if len(points) else np.array([end])
    points = np.unique(points)
    if len(points) <= _MOST_POINTS:
        return points
    return np.asarray(points[np.round(np.linspace(0, len(points) - 1, _MOST_POINTS)).astype(int)])


def _first(series: Series, threshold: float) -> float:
    reached = np.flatnonzero(series.values >= threshold)
    return float(series.env_steps[reached[0]]) if len(reached) else math.inf


def _median(steps: Array) -> Array:
    """The median of ``[…, N]``; infinite where half of the runs never arrive."""
    ordered = np.sort(steps, axis=-1)
    n_runs = steps.shape[-1]
    return np.asarray((ordered[..., (n_runs - 1) // 2] + ordered[..., n_runs // 2]) / 2)
