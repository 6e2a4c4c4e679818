"""Random numbers of a policy, drawn many steps at a time: a draw for one step costs as much as one for a hundred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS_PER_BLOCK = 128


class BlockedDraws:
    """An endless sequence of random arrays of one shape.

    The sequence depends on the generator and the shape alone, not on how the steps are cut into chunks.

    Args:
        draw: gives an array of the shape it is called with, ``[steps, B, …]``, from the generator.
        generator: the source; used by nobody else.
        shape: shape of one step's numbers, ``[B, …]``.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]],
        generator: np.random.Generator,
        shape: tuple[int, ...],
    ) -> None:
        self._draw = draw
        self._generator = generator
        self._shape = shape
        self._block: list[NDArray[Any]] = []
        self._position = 0

    def next(self) -> NDArray[Any]:
        """The numbers of the next step, ``[B, …]``."""
        position = self._position
        if position == len(self._block):
            self._block = list(self._draw(self._generator, (_STEPS_PER_BLOCK, *self._shape)))
            position = 0
        self._position = position + 1
        return self._block[position]
