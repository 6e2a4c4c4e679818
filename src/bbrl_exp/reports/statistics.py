"""Statistics over runs and environments, with stratified bootstrap intervals (Agarwal et al., 2021).

A setting's scores come as *strata*: one array ``[…, N_k]`` per environment k, one score per run. Leading axes are
resamples, so that the same function gives an estimate and what it becomes under resampling.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.functional.statistics import interquartile_mean

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Strata = Sequence[Array]
Statistic = Callable[[Strata], Array]

RESAMPLES = 10_000
SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; None at the ends where too few runs give none."""

    value: float
    lower: float | None = None
    upper: float | None = None


def pooled_interquartile_mean(strata: Strata) -> Array:
    """Interquartile mean of the scores of all environments together; ``[…]``."""
    return interquartile_mean(np.concatenate(list(strata), axis=-1))


def mean(strata: Strata) -> Array:
    """Mean of the environments' means: each environment weighs the same; ``[…]``."""
    return np.asarray(np.mean([scores.mean(axis=-1) for scores in strata], axis=0))


def median(strata: Strata) -> Array:
    """Median of the environments' means, as in the paper; of one environment, the median of its runs; ``[…]``."""
    if len(strata) == 1:
        return np.asarray(np.median(strata[0], axis=-1))
    return np.asarray(np.median([scores.mean(axis=-1) for scores in strata], axis=0))


def performance_profile(strata: Strata, thresholds: Array) -> Array:
    """Fraction of scores above each of X thresholds, each environment weighing the same; ``[…, X]``.

    Section 4.2, equation 2.
    """
    above = [(scores[..., None, :] > thresholds[:, None]).mean(axis=-1) for scores in strata]
    return np.asarray(np.mean(above, axis=0))


def probability_of_improvement(one: Strata, other: Strata) -> float:
    """Probability that a run of ``one`` scores more than one of ``other``, ties counting half; mean over environments.

    That is the Mann-Whitney U statistic divided by the number of pairs (section 4.3, equation 3). The environments of
    the strata, each ``[N_k]`` and ``[M_k]``, are the same.
    """
    return float(np.mean([_pairs(x, y).mean() for x, y in zip(one, other, strict=True)]))


def resampled_improvement(
    one: Strata, other: Strata, one_counts: Sequence[Array], other_counts: Sequence[Array]
) -> Array:
    """:func:`probability_of_improvement` of R resamples; ``[R]``.

    Args:
        one: its scores, each ``[N_k]``.
        other: its scores, each ``[M_k]``.
        one_counts: ``[R, N_k]``, how often each resample holds each score.
        other_counts: ``[R, M_k]``, of draws that are independent of those.
    """
    found = []
    for x, y, x_counts, y_counts in zip(one, other, one_counts, other_counts, strict=True):
        found.append(((x_counts @ _pairs(x, y)) * y_counts).sum(axis=1) / (len(x) * len(y)))
    return np.asarray(np.mean(found, axis=0))


def draw(strata: Strata, name: str) -> list[Indices]:
    """Draws with replacement within each environment: ``[R, N_k]``, which scores each resample holds.

    The setting ``name`` has its own draws, the same in every report.
    """
    generator = np.random.default_rng([SEED, zlib.crc32(name.encode("utf-8", "backslashreplace"))])
    return [generator.integers(0, len(scores), (RESAMPLES, len(scores))) for scores in strata]


def counts(drawn: Indices) -> Array:
    """How often each of the N scores of an environment is in each resample of :func:`draw`; ``[R, N]``."""
    n_resamples, size = drawn.shape
    flat = drawn + size * np.arange(n_resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)


def has_interval(strata: Strata) -> bool:
    """Whether every environment has two runs at least: the spread of a single one is not known."""
    return all(scores.shape[-1] > 1 for scores in strata)


def estimate(statistic: Statistic, strata: Strata, drawn: Sequence[Indices]) -> Estimate:
    """A statistic with its percentile bootstrap interval, from what :func:`draw` gives."""
    value = float(statistic(strata))
    if not has_interval(strata):
        return Estimate(value)
    lower, upper = interval(statistic([scores[of] for scores, of in zip(strata, drawn, strict=True)]))
    return Estimate(value, float(lower), float(upper))


def interval(resampled: Array) -> tuple[Array, Array]:
    """The lower and upper end of the percentile interval, ``[…]``: quantiles over the R resamples ``[R, …]``."""
    tail = 50 * (1 - CONFIDENCE)
    lower, upper = np.percentile(resampled, [tail, 100 - tail], axis=0)
    return np.asarray(lower), np.asarray(upper)


def _pairs(x: Array, y: Array) -> Array:
    """1 where x is more, 1/2 where they are equal, 0 where it is less; ``[N, M]``."""
    return (np.sign(x[:, None] - y[None, :]) + 1) / 2
