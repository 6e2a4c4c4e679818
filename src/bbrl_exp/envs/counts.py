"""Which values of a discrete leaf are of its space. No torch here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.spec import LeafSpec

# Up to so many values, looking them up costs less than calls of numpy; a set of millions would be wasteful.
_FEW = 64
_LARGEST_SET = 4096


class Counts:
    """The values of a leaf that is discrete, multi_discrete or multi_binary.

    Args:
        leaf: the leaf.
    """

    def __init__(self, leaf: LeafSpec) -> None:
        counts = np.asarray(leaf.counts)
        self._smallest = np.zeros(leaf.shape, np.int64) if leaf.start is None else np.asarray(leaf.start)
        self._beyond = self._smallest + counts
        self._has_start = bool(self._smallest.any())
        self._count = int(counts) if leaf.kind == "discrete" else None
        is_small = self._count is not None and self._count <= _LARGEST_SET
        self._values = frozenset(range(int(self._smallest), int(self._beyond))) if is_small else None

    def first_outside(self, values: NDArray[Any]) -> tuple[int, ...] | None:
        """Where in ``values``, ``[B, *shape]``, is the first one outside of the space; None if there is none."""
        if self._values is not None and len(values) <= _FEW:
            if self._values.issuperset(values.tolist()):
                return None
        elif self._count is not None:
            # As unsigned numbers, negative ones are the largest: one reduction finds whatever is outside.
            whole = values if values.dtype == np.int64 else values.astype(np.int64)
            offsets = whole - self._smallest if self._has_start else whole
            if np.maximum.reduce(offsets.view(np.uint64)) < self._count:
                return None
        outside = (values < self._smallest) | (values >= self._beyond)
        return tuple(np.argwhere(outside)[0].tolist()) if outside.any() else None

    def allowed(self, where: tuple[int, ...]) -> str:
        """The values that are possible at ``where``, as :meth:`first_outside` gives it: ``"0 … 3"``."""
        component = where[1:]
        return f"{self._smallest[component]} … {self._beyond[component] - 1}"
