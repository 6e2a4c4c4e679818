"""Random numbers of a policy, drawn many steps at a time: a draw for one step costs as much as one for a hundred."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.agents.slices import BatchSlice

_STEPS_PER_BLOCK = 128


class Draws(Protocol):
    """An endless sequence of random arrays of one shape, which can be taken up where it was left."""

    def next(self) -> NDArray[Any]:
        """The numbers of the next step, ``[B, …]``."""

    def state(self) -> dict[str, Any]:
        """Where the sequence stands, as tensors and plain Python."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`state` was taken."""


class BlockedDraws:
    """An endless sequence of random arrays of one shape.

    The sequence depends on the generator and the shape alone, not on how the steps are cut into chunks.

    Args:
        draw: gives an array of the shape it is called with, ``[steps, B, …]``, from the generator, and knows nothing of
            the calls before.
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
        self._start = generator.bit_generator.state
        self._block: list[NDArray[Any]] = []
        self._position = 0

    def next(self) -> NDArray[Any]:
        """The numbers of the next step, ``[B, …]``; the caller may change them."""
        position = self._position
        if position == len(self._block):
            self._draw_block()
            position = 0
        self._position = position + 1
        return self._block[position]

    def state(self) -> dict[str, Any]:
        """The generator where it began the current block, and the number of steps taken from this."""
        return {"generator": dict(self._start), "position": self._position}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`state` was taken."""
        self._generator.bit_generator.state = self._start = dict(state["generator"])
        self._block, self._position = [], state["position"]
        if self._position:
            self._draw_block()

    def _draw_block(self) -> None:
        self._start = self._generator.bit_generator.state
        self._block = list(self._draw(self._generator, (_STEPS_PER_BLOCK, *self._shape)))


class DrawsOfSlice:
    """What falls to a part of a batch of numbers that are drawn for the whole batch.

    Args:
        draws: those of the whole batch.
        part: the part.
    """

    def __init__(self, draws: Draws, part: BatchSlice) -> None:
        self._draws = draws
        self._own = slice(part.first, part.first + part.count)

    def next(self) -> NDArray[Any]:
        """The part's numbers of the next step."""
        return self._draws.next()[self._own]

    def state(self) -> dict[str, Any]:
        """Where the sequence of the whole batch stands."""
        return self._draws.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`state` was taken."""
        self._draws.load_state(state)


class DrawsByBatchSize:
    """The sequences of a policy, separate ones for each batch size that it meets.

    Args:
        make: the sequences for a root seed and a batch size.
        seed: the root seed.
    """

    def __init__(self, make: Callable[[int, int], Sequence[Draws]], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._part: BatchSlice | None = None
        self._draws: dict[int, Sequence[Draws]] = {}

    def __call__(self, batch_size: int) -> Sequence[Draws]:
        """The sequences for B environments."""
        draws = self._draws.get(batch_size)
        if draws is None:
            part = self._part
            if part is None:
                draws = self._make(self._seed, batch_size)
            else:
                draws = [DrawsOfSlice(one, part) for one in self._make(self._seed, part.whole)]
            self._draws[batch_size] = draws
        return draws

    def take_slice(self, part: BatchSlice) -> None:
        """From now on the sequences are a part of those of the whole batch."""
        self._part = part
        self._draws = {}

    def restart(self, seed: int) -> None:
        """Begins them anew from another root seed."""
        self._seed = seed
        self._draws = {}

    def state(self) -> dict[str, Any]:
        """The root seed, and where each sequence stands."""
        return {
            "seed": self._seed,
            "draws": {size: [one.state() for one in draws] for size, draws in sorted(self._draws.items())},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`state` was taken."""
        self.restart(state["seed"])
        for size, saved in state["draws"].items():
            for one, one_saved in zip(self(size), saved, strict=True):
                one.load_state(one_saved)
