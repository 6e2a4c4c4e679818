"""Whether the numbers of a row are finite, in one call and without allocating anything for the usual row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Beyond so many numbers numpy's BLAS may start its own threads.
_LARGEST_DOT = 8192


def all_finite(values: NDArray[Any], zeros: NDArray[Any]) -> bool:
    """Whether ``values`` holds neither NaN nor infinity; ``zeros`` are as many zeros of the same dtype.

    x * 0 is 0 for finite numbers only, so one dot product is enough.
    """
    if values.size > _LARGEST_DOT:
        return bool(np.isfinite(values).all())
    return bool(np.vdot(values, zeros) == 0.0)


def all_below(values: NDArray[Any], bound: float) -> bool:
    """Whether no number of ``values`` is NaN or larger than ``bound`` (above 1) in size."""
    if values.size <= _LARGEST_DOT and np.vdot(values, values) <= bound:
        return True
    return bool(np.abs(values).max() <= bound)
