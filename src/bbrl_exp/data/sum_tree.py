"""Many weights of which single ones change and indexes are drawn in proportion, both in little time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.arguments import AT_LEAST_1

# Children of a node: whole arrays are cheap in numpy and calls are not, hence a flatter tree than a binary one.
_FAN_OUT = 16
# Nodes without parents, at most: one sum over all of them costs less than further levels.
_LARGEST_TOP = 4096


class SumTree:
    """Weights of at least 0, float64, all 0 at first; every node above them holds the sum of its children.

    Args:
        n_weights: how many, at least 1.

    Raises:
        ConfigurationError: ``n_weights`` is not a whole number of at least 1.
    """

    def __init__(self, n_weights: int) -> None:
        AT_LEAST_1.check(n_weights=n_weights)
        sizes = [n_weights]
        while sizes[-1] > _LARGEST_TOP:
            sizes.append(-(-sizes[-1] // _FAN_OUT))
        # From the top to the weights themselves; children of one node are neighbours.
        self._levels = [np.zeros(sizes[-1])]
        self._levels += [np.zeros(size * _FAN_OUT) for size in sizes[:0:-1]]
        self._children = [level.reshape(-1, _FAN_OUT) for level in self._levels[1:]]
        self._sums: NDArray[np.float64] | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of memory."""
        return sum(level.nbytes for level in self._levels)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._top_sums()[-1])

    def __getitem__(self, indexes: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._levels[-1][indexes]

    def __setitem__(self, indexes: NDArray[np.int64], weights: NDArray[np.float64] | float) -> None:
        self._sums = None
        self._levels[-1][indexes] = weights
        for children, level in zip(self._children[::-1], self._levels[-2::-1], strict=True):
            indexes = indexes // _FAN_OUT
            level[indexes] = np.einsum("ij->i", children.take(indexes, axis=0))

    def find(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """The smallest index up to which the weights sum to more than each position, ``[N]`` in [0, total).

        An index of weight 0 is never found, not even where rounding brings a position to the end of a node.
        """
        sums, first = self._top_sums(), np.arange(0, len(positions) * _FAN_OUT, _FAN_OUT)
        positions = np.minimum(positions, np.nextafter(sums[-1], 0.0))
        indexes = sums.searchsorted(positions, side="right")
        positions = positions - sums.take(indexes - 1) * (indexes > 0)
        for children in self._children:
            sums = children.take(indexes, axis=0).cumsum(1)
            positions = np.minimum(positions, np.nextafter(sums[:, -1], 0.0))
            child = (sums <= positions[:, None]).sum(1)
            positions -= sums.take(first + child - 1, mode="wrap") * (child > 0)
            indexes = indexes * _FAN_OUT + child
        return indexes

    def _top_sums(self) -> NDArray[np.float64]:
        if self._sums is None:
            self._sums = self._levels[0].cumsum()
        return self._sums
