"""Histograms of any numbers: every finite one is counted once, in a bucket that holds it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from bbrl_exp.tracking.summaries import histogram_of

LARGEST = np.iinfo(np.int64).max


def histogram(values: NDArray[np.generic]) -> tuple[list[float], list[float], float]:
    """The upper edges of the buckets, their counts, and the lower edge of the first one."""
    proto = histogram_of(values)
    assert proto is not None
    return list(proto.bucket_limit), list(proto.bucket), proto.min


def test_a_few_whole_numbers_have_a_bucket_each() -> None:
    assert histogram(np.array([3, 5, 5])) == ([3.5, 4.5, 5.5], [1.0, 0.0, 2.0], 2.5)
    top = 2**52
    assert histogram(np.array([top - 1, top - 1, top - 3]))[1] == [1.0, 0.0, 2.0]


@pytest.mark.parametrize(
    "values",
    [
        *(np.array([n, n + spread]) for n in (2**52 - 1, 2**53, 2**54, 2**60, -(2**54)) for spread in (0, 1, 5, 100)),
        np.array([LARGEST, LARGEST - 1, -LARGEST - 1]),
        np.array([LARGEST, LARGEST]),
        np.array([2**64 - 1, 2**64 - 2], np.uint64),
        np.array([0, 2**64 - 1], np.uint64),
        np.array([2**63, 2**63 + 7], np.uint64),
        np.array([-(2.0**60), -(2.0**60)]),
        np.array([-1e300, 1e300]),
        np.array([-1.7e308, 1.7e308]),
        np.array([np.finfo(np.float64).max] * 2),
        np.array([5e-324, 0.0]),
        np.array([1.0, np.nextafter(1.0, 2)]),
        np.array([np.nan, np.inf, -np.inf, 2.0, 2.0]),
        np.array([np.nan, 1.0, 3e38], np.float32),
        np.array([True, False]),
    ],
    ids=str,
)
def test_every_finite_number_is_in_one_bucket(values: NDArray[np.generic]) -> None:
    limits, counts, low = histogram(values)
    numbers = values.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    edges = [low, *limits]
    assert all(a < b for a, b in itertools.pairwise(edges))
    assert sum(counts) == len(numbers)
    for (below, above), count in zip(itertools.pairwise(edges), counts, strict=True):
        inside = (numbers >= below) & ((numbers < above) | ((above == edges[-1]) & (numbers == above)))
        assert count == inside.sum()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_has_no_finite_number_has_no_histogram(value: float) -> None:
    assert histogram_of(np.full((2, 1), value)) is None
