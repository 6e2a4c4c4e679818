"""What a policy of continuous actions explores with: first actions at random, then noise that may last a while."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.policies.draws import BlockedDraws
from bbrl_exp.seeding import numpy_generator


class Exploration(nn.Module):
    """Draws numbers for B environments with D action components each.

    The noise of consecutive time steps is x' = ρ x + √(1 - ρ²) ε with standard normal ε: standard normal at every
    step, with the autocorrelation ρ^k over k steps. This is the Ornstein-Uhlenbeck process of Lillicrap et al. (2016)
    at θ Δt = 1 - ρ. It knows no episodes: its first number in one follows its last in the one before.

    Args:
        n_components: number D of action components.
        random_steps: environment steps at the beginning of a run for which :meth:`uniform` gives actions.
        correlation: ρ, 0 for independent noise.
        seed: root seed.
        name: name of the agent, a part of the streams' names.

    Raises:
        ConfigurationError: negative ``random_steps``, or a correlation outside [0, 1).
    """

    def __init__(self, n_components: int, random_steps: int, correlation: float, seed: int, name: str | None) -> None:
        super().__init__()
        if random_steps < 0:
            raise ConfigurationError(f"random_steps={random_steps}: 0 or more environment steps")
        if not 0.0 <= correlation < 1.0:
            raise ConfigurationError(f"noise_correlation={correlation}: 0 or more, and below 1")
        self._n_components = n_components
        self._random_steps = random_steps
        self._correlation = correlation
        self._name = name or ""
        self._n_drawn = 0
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begins the streams anew from the root ``seed``."""
        self._root_seed = seed
        self._uniform: dict[int, BlockedDraws] = {}
        self._normal: dict[int, BlockedDraws] = {}

    def uniform(self, batch_size: int) -> NDArray[Any] | None:
        """Actions float32 ``[B, D]`` drawn uniformly from [-1, 1] for the next step; None once there were enough."""
        if self._n_drawn >= self._random_steps:
            return None
        self._n_drawn += batch_size
        draws = self._uniform.get(batch_size)
        if draws is None:
            generator = numpy_generator(self._root_seed, "action", self._name, "uniform")
            draws = self._uniform[batch_size] = BlockedDraws(_uniform, generator, (batch_size, self._n_components))
        return draws.next()

    def normal(self, batch_size: int) -> NDArray[Any]:
        """Noise float32 ``[B, D]`` for the next step."""
        draws = self._normal.get(batch_size)
        if draws is None:
            generator = numpy_generator(self._root_seed, "action", self._name, "noise")
            process = _Autoregression(self._correlation)
            draws = self._normal[batch_size] = BlockedDraws(process, generator, (batch_size, self._n_components))
        return draws.next()

    def get_extra_state(self) -> dict[str, Any]:
        """How many of the actions at random were drawn."""
        return {"n_drawn": self._n_drawn}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`get_extra_state` gave."""
        self._n_drawn = state["n_drawn"]


def _uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return generator.uniform(-1.0, 1.0, shape).astype(np.float32)


class _Autoregression:
    """Blocks of the process, each the continuation of the one before."""

    def __init__(self, correlation: float) -> None:
        self._correlation = correlation
        self._last: NDArray[Any] | None = None

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        block = generator.standard_normal(shape, dtype=np.float32)
        if self._correlation == 0.0:
            return block
        for row in block:
            if self._last is not None:
                row *= math.sqrt(1.0 - self._correlation**2)
                row += self._correlation * self._last
            self._last = row
        return block
