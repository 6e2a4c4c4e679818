"""Random numbers of a policy, drawn many steps at a time: a draw for one step costs as much as one for a hundred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_STEPS_PER_BLOCK = 128


class BlockedDraws:
    """An endless sequence of random tensors of one shape.

    The sequence depends on the generator and the shape alone, not on how the steps are cut into chunks.

    Args:
        draw: gives an array of the shape it is called with, ``[steps, B, …]``, from the generator.
        generator: the source; used by nobody else.
        shape: shape of one step's numbers, ``[B, …]``.
        device: where the tensors are wanted; the numbers are the same on every device.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]],
        generator: np.random.Generator,
        shape: tuple[int, ...],
        device: torch.device,
    ) -> None:
        self._draw = draw
        self._generator = generator
        self._shape = shape
        self._device = device
        self._block: tuple[Tensor, ...] = ()
        self._position = 0

    def next(self) -> Tensor:
        """The numbers of the next step, ``[B, …]``."""
        if self._position == len(self._block):
            with torch.inference_mode(False):
                numbers = torch.from_numpy(self._draw(self._generator, (_STEPS_PER_BLOCK, *self._shape)))
                self._block = numbers.to(self._device).unbind(0)
            self._position = 0
        self._position += 1
        return self._block[self._position - 1]
