"""What a policy of continuous actions explores with: first actions at random, then noise that may last a while."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bbrl_exp.agents.streams import BlockedDraws, Draws, RandomStreams
from bbrl_exp.arguments import COUNT_FROM_0, FROM_0_BELOW_1
from bbrl_exp.seeding import numpy_generator


class Exploration(nn.Module):
    """Draws numbers for B environments with D action components each.

    The noise of consecutive time steps is x' = ρ x + √(1 - ρ²) ε with standard normal ε: standard normal at every
    step, with the autocorrelation ρ^k over k steps. This is the Ornstein-Uhlenbeck process of Lillicrap et al. (2016)
    at θ Δt = 1 - ρ. It knows no episodes: its first number in one follows its last in the one before. In evaluation
    mode ρ is 0, for streams that begin there.

    How many actions at random there were is no part of the policy: a run that begins with the policy of another one
    makes its first actions at random as any other run does.

    Args:
        n_components: number D of action components.
        random_steps: environment steps at the beginning of a run for which :meth:`uniform` gives actions.
        correlation: ρ, 0 for independent noise.
        seed: root seed.
        name: name of the agent, a part of the streams' names.

    Raises:
        ConfigurationError: ``random_steps`` is not a whole number of at least 0, or a correlation outside [0, 1).
    """

    def __init__(self, n_components: int, random_steps: int, correlation: float, seed: int, name: str | None) -> None:
        super().__init__()
        COUNT_FROM_0.check(random_steps=random_steps)
        FROM_0_BELOW_1.check(noise_correlation=correlation)
        self._n_components = n_components
        self._random_steps = random_steps
        self._correlation = correlation
        self._name = name or ""
        self.uniform_stream = RandomStreams(self._uniform_draws, seed)
        self.normal_stream = RandomStreams(self._normal_draws, seed)
        self._streams = (self.uniform_stream, self.normal_stream)  # looking up a module takes as long as a draw

    def next(self, batch_size: int, samples: bool) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        """Actions at random, or else noise for those of the network; in evaluation mode noise if it ``samples``."""
        if not self.training:
            return None, self.normal(batch_size) if samples else None
        drawn = self.uniform(batch_size)
        return drawn, self.normal(batch_size) if drawn is None else None

    def uniform(self, batch_size: int) -> NDArray[Any] | None:
        """Actions float32 ``[B, D]`` drawn uniformly from [-1, 1] for the next step; None once there were enough."""
        stream = self._streams[0]
        return None if stream.n_drawn >= self._random_steps else stream.next(batch_size)[0]

    def normal(self, batch_size: int) -> NDArray[Any]:
        """Noise float32 ``[B, D]`` for the next step."""
        return self._streams[1].next(batch_size)[0]

    def _uniform_draws(self, seed: int, batch_size: int) -> list[Draws]:
        generator = numpy_generator(seed, "action", self._name, "uniform")
        return [BlockedDraws(_uniform, generator, (batch_size, self._n_components))]

    def _normal_draws(self, seed: int, batch_size: int) -> list[Draws]:
        generator = numpy_generator(seed, "action", self._name, "noise")
        draws = BlockedDraws(_normal, generator, (batch_size, self._n_components))
        return [_Autoregression(draws, self._correlation) if self._correlation and self.training else draws]


def _uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return generator.uniform(-1.0, 1.0, shape).astype(np.float32)


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return generator.standard_normal(shape, dtype=np.float32)


class _Autoregression:
    """The process x' = ρ x + √(1 - ρ²) ε.

    Args:
        draws: the ε.
        correlation: ρ.
    """

    def __init__(self, draws: BlockedDraws, correlation: float) -> None:
        self._draws = draws
        self._correlation = correlation
        self._last: NDArray[Any] | None = None

    def next(self) -> NDArray[Any]:
        row = self._draws.next()
        if self._last is not None:
            row *= math.sqrt(1.0 - self._correlation**2)
            row += self._correlation * self._last
        self._last = row
        return row

    def state(self) -> dict[str, Any]:
        last = None if self._last is None else torch.from_numpy(self._last.copy())
        return {"draws": self._draws.state(), "last": last}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._draws.load_state(state["draws"])
        self._last = None if state["last"] is None else state["last"].numpy().copy()
