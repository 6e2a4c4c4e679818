"""Histograms as TensorBoard's HISTOGRAMS and DISTRIBUTIONS pages show them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

N_BUCKETS = 30
_FLOAT = np.finfo(np.float64)
_LARGEST_WITH_HALVES = 2.0**52  # from here on, there is no float64 between two whole numbers


def histogram_values(tag: str, components: NDArray[Any], max_components: int) -> list[Summary.Value]:
    """One histogram for each component of a small vector, one in all for a scalar or a larger tensor.

    Args:
        tag: name of the histogram; components append ``/<component>``.
        components: ``[T, B, …]``.
        max_components: the most components that have a histogram each.

    Returns:
        Summary values; none for what has no finite value.
    """
    if components.ndim <= 2 or components[0, 0].size > max_components:
        named = {tag: components}
    else:
        flat = components.reshape(*components.shape[:2], -1)
        named = {f"{tag}/{index}": flat[:, :, index] for index in range(flat.shape[2])}
    made = ((name, _histogram(values)) for name, values in named.items())
    return [Summary.Value(tag=name, histo=proto) for name, proto in made if proto is not None]


def _histogram(values: NDArray[Any]) -> HistogramProto | None:
    numbers = values.astype(np.float64).reshape(-1)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return None
    low, high = float(numbers.min()), float(numbers.max())
    size = max(abs(low), abs(high))
    if np.issubdtype(values.dtype, np.integer) and high - low < N_BUCKETS and size < _LARGEST_WITH_HALVES:
        edges = np.arange(low, high + 2) - 0.5
    elif np.isfinite(high - low) and (high - low) / N_BUCKETS > size * _FLOAT.eps:
        edges = np.linspace(low, high, N_BUCKETS + 1)
    else:
        above = high if high == _FLOAT.max else np.nextafter(high, np.inf)
        edges = np.array([low if low < above else np.nextafter(low, -np.inf), above])
    counts, _ = np.histogram(numbers, edges)
    with np.errstate(over="ignore"):
        return HistogramProto(
            min=float(edges[0]),
            max=float(edges[-1]),
            num=float(numbers.size),
            sum=float(numbers.sum()),
            sum_squares=float(np.square(numbers).sum()),
            bucket_limit=edges[1:].tolist(),
            bucket=counts.tolist(),
        )
