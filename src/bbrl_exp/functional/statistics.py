"""Statistics of scores over seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def interquartile_mean(scores: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half of the scores along the last axis (Agarwal et al., 2021, section 4.3).

    A quarter of the scores, rounded down, is left out at each end: none of three, one of five at each end.

    Args:
        scores: ``[…, N]``, N at least 1.

    Returns:
        ``[…]``.
    """
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    n_cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., n_cut : ordered.shape[-1] - n_cut].mean(axis=-1))
