"""How the runs of a trial, one a seed, make one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bbrl_exp.functional.statistics import interquartile_mean

AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "iqm": lambda values: float(interquartile_mean(values)),
    "mean": lambda values: float(np.mean(values)),
    "median": lambda values: float(np.median(values)),
    "min": lambda values: float(np.min(values)),
}
