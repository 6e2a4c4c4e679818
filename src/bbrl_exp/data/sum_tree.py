"""Many weights of which single ones change and indexes are drawn in proportion, both in logarithmic time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Children of a node: whole arrays are cheap in numpy and calls are not, hence a flatter tree than a binary one.
_FAN_OUT = 16


class SumTree:
    """Weights of at least 0, float64, all 0 at first; every node above them holds the sum of its children.

    Args:
        n_weights: how many, at least 1.
    """

    def __init__(self, n_weights: int) -> None:
        size = _FAN_OUT
        while size < n_weights:
            size *= _FAN_OUT
        self._levels: list[NDArray[np.float64]] = [np.zeros(1)]
        while len(self._levels[-1]) < size:
            self._levels.append(np.zeros(len(self._levels[-1]) * _FAN_OUT))

    @property
    def n_bytes(self) -> int:
        """Bytes of memory."""
        return sum(level.nbytes for level in self._levels)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._levels[0][0])

    def __getitem__(self, indexes: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._levels[-1][indexes]

    def __setitem__(self, indexes: NDArray[np.int64], weights: NDArray[np.float64] | float) -> None:
        self._levels[-1][indexes] = weights
        for children, level in zip(self._levels[:0:-1], self._levels[-2::-1], strict=True):
            indexes = indexes // _FAN_OUT
            level[indexes] = children.reshape(-1, _FAN_OUT)[indexes].sum(1)

    def find(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """The smallest index up to which the weights sum to more than each position, ``[N]`` in [0, total).

        An index of weight 0 is never found, not even where rounding brings a position to the end of a node.
        """
        indexes = np.zeros(len(positions), np.int64)
        each = np.arange(len(positions))
        for children in self._levels[1:]:
            sums = children.reshape(-1, _FAN_OUT)[indexes].cumsum(1)
            positions = np.minimum(positions, np.nextafter(sums[:, -1], 0.0))
            child = (sums <= positions[:, None]).sum(1)
            positions = positions - np.where(child > 0, sums[each, child - 1], 0.0)
            indexes = indexes * _FAN_OUT + child
        return indexes
