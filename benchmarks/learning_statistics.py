"""Statistics of learning runs over seeds: interquartile mean, its bootstrap interval, steps to a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bbrl_exp.functional.statistics import interquartile_mean

RESAMPLES = 20_000


def bootstrap_interval(scores: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the interquartile mean, seeds being drawn with replacement.

    One task is one stratum, so that stratified and plain bootstrap agree. With fewer than five seeds the interval is
    hardly more than the lowest and the highest score: 1 of 27 resamples of three seeds is the lowest score thrice.

    Args:
        scores: ``[N]``, one score a seed.
        confidence: probability mass inside.

    Returns:
        Lower and upper end.
    """
    values = np.asarray(scores, np.float64)
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    tail = 50 * (1 - confidence)
    lower, upper = np.percentile(interquartile_mean(values[drawn]), [tail, 100 - tail])
    return float(lower), float(upper)


def steps_to_threshold(curve: Sequence[tuple[int, float]], threshold: float) -> int | None:
    """Environment steps of the first evaluation at or above ``threshold``; None if there is none.

    Args:
        curve: (environment steps, mean return) of each evaluation, in the order of training.
        threshold: the mean return to reach.
    """
    return next((env_steps for env_steps, mean_return in curve if mean_return >= threshold), None)


def extra_decimals(scores: Sequence[float]) -> int:
    """How many more decimals than for returns of other sizes: two where no score is beyond ± 1."""
    return 2 if max(abs(score) for score in scores) <= 1 else 0
