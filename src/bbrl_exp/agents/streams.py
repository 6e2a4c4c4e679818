"""Random numbers of an agent, drawn many steps at a time: a draw for one step costs as much as one for a hundred."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bbrl_exp.agents.slices import BatchSlice

_STEPS_PER_BLOCK = 128


class Draws(Protocol):
    """An endless sequence of random arrays of one shape, which can be resumed."""

    def next(self) -> NDArray[Any]:
        """The numbers of the next step, ``[B, …]``."""

    def state(self) -> dict[str, Any]:
        """Where the sequence is, as tensors and plain Python."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resumes from where :meth:`state` was taken."""


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
        """Resumes from where :meth:`state` was taken."""
        self._generator.bit_generator.state = self._start = dict(state["generator"])
        self._block, self._position = [], state["position"]
        if self._position:
            self._draw_block()

    def _draw_block(self) -> None:
        self._start = self._generator.bit_generator.state
        self._block = list(self._draw(self._generator, (_STEPS_PER_BLOCK, *self._shape)))


class RandomStreams(nn.Module):
    """The random numbers of an agent, as a module of it: graphs are seeded, saved, resumed and divided by such modules.

    Each batch size that the agent meets has its own sequences. A copy of the agent for a part of the batch draws for
    the whole batch, and uses its part.

    Args:
        make: the sequences for a root seed and a batch size.
        seed: the root seed.

    Attributes:
        n_drawn: environment steps for which numbers were drawn, all environments and batch sizes together.
    """

    def __init__(self, make: Callable[[int, int], Sequence[Draws]], seed: int) -> None:
        super().__init__()
        self.n_drawn = 0
        self._make = make
        self._seed = seed
        self._part: BatchSlice | None = None
        self._draws: dict[int, Sequence[Draws]] = {}

    def next(self, batch_size: int) -> list[NDArray[Any]]:
        """The numbers of the next step for B environments, one array ``[B, …]`` per sequence."""
        draws = self._draws.get(batch_size) or self._begin(batch_size)
        part = self._part
        self.__dict__["n_drawn"] += batch_size if part is None else part.whole  # modules set attributes slowly
        if part is None:
            return [one.next() for one in draws]
        return [one.next()[part.first : part.first + part.count] for one in draws]

    def next_steps(self, n: int, batch_size: int) -> list[NDArray[Any]]:
        """What the next ``n`` calls of :meth:`next` give, one array ``[n, B, …]`` per sequence."""
        return [np.stack(steps) for steps in zip(*(self.next(batch_size) for _ in range(n)), strict=True)]

    def seed(self, seed: int) -> None:
        """Restarts the sequences from another root seed."""
        self._seed = seed
        self._draws = {}

    def take_slice(self, part: BatchSlice) -> None:
        """See :class:`~bbrl_exp.agents.slices.KnowsItsSlice`."""
        self._part = part
        self._draws = {}

    def run_state(self) -> dict[str, Any]:
        """The root seed, the number of steps, and where each sequence is."""
        draws = {size: [one.state() for one in draws] for size, draws in sorted(self._draws.items())}
        return {"seed": self._seed, "n_drawn": self.n_drawn, "draws": draws}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Resumes from where :meth:`run_state` was taken."""
        self.seed(state["seed"])
        self.n_drawn = state["n_drawn"]
        for size, saved in state["draws"].items():
            for one, one_saved in zip(self._begin(size), saved, strict=True):
                one.load_state(one_saved)

    def _begin(self, batch_size: int) -> Sequence[Draws]:
        whole = batch_size if self._part is None else self._part.whole
        draws = self._draws[batch_size] = self._make(self._seed, whole)
        return draws
