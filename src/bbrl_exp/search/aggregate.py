"""How the runs of a trial, one a seed, make one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of what is left when a quarter of the values, rounded down, is dropped at each end.

    Fewer than four values have no quarter to drop: it is their mean then.

    Args:
        values: at least one.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n_dropped = len(ordered) // 4
    return float(ordered[n_dropped : len(ordered) - n_dropped].mean())


AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "iqm": interquartile_mean,
    "mean": lambda values: float(np.mean(values)),
    "median": lambda values: float(np.median(values)),
    "min": lambda values: float(np.min(values)),
}
