"""What a policy of continuous actions explores with: first actions at random, then noise that may last a while."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.arguments import AT_LEAST_0, FROM_0_BELOW_1
from bbrl_exp.policies.draws import BlockedDraws, Draws, DrawsByBatchSize
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
        AT_LEAST_0.check(random_steps=random_steps)
        FROM_0_BELOW_1.check(noise_correlation=correlation)
        self._n_components = n_components
        self._random_steps = random_steps
        self._correlation = correlation
        self._name = name or ""
        self._n_drawn = 0
        self._n_environments: int | None = None
        self._uniform_for = DrawsByBatchSize(self._uniform, seed)
        self._normal_for = DrawsByBatchSize(self._normal, seed)

    def restart(self, seed: int) -> None:
        """Begins the streams anew from the root ``seed``."""
        self._uniform_for.restart(seed)
        self._normal_for.restart(seed)

    def uniform(self, batch_size: int) -> NDArray[Any] | None:
        """Actions float32 ``[B, D]`` drawn uniformly from [-1, 1] for the next step; None once there were enough."""
        if self._n_drawn >= self._random_steps:
            return None
        self._n_drawn += self._n_environments or batch_size
        return self._uniform_for(batch_size)[0].next()

    def normal(self, batch_size: int) -> NDArray[Any]:
        """Noise float32 ``[B, D]`` for the next step."""
        return self._normal_for(batch_size)[0].next()

    def take_slice(self, part: BatchSlice) -> None:
        """See :class:`~bbrl_exp.agents.slices.KnowsItsSlice`."""
        self._n_environments = part.whole
        self._uniform_for.take_slice(part)
        self._normal_for.take_slice(part)

    def run_state(self) -> dict[str, Any]:
        """How many actions at random there were, and where the streams stand.

        It is no part of the policy: a run that begins with the policy of another one makes its first actions at random
        as any other run does.
        """
        return {"n_drawn": self._n_drawn, "uniform": self._uniform_for.state(), "normal": self._normal_for.state()}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`run_state` was taken."""
        self._n_drawn = state["n_drawn"]
        self._uniform_for.load_state(state["uniform"])
        self._normal_for.load_state(state["normal"])

    def _uniform(self, seed: int, batch_size: int) -> list[BlockedDraws]:
        generator = numpy_generator(seed, "action", self._name, "uniform")
        return [BlockedDraws(_uniform, generator, (batch_size, self._n_components))]

    def _normal(self, seed: int, batch_size: int) -> list[Draws]:
        generator = numpy_generator(seed, "action", self._name, "noise")
        draws = BlockedDraws(_normal, generator, (batch_size, self._n_components))
        return [_Autoregression(draws, self._correlation) if self._correlation else draws]


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
        """See :class:`~bbrl_exp.policies.draws.Draws`."""
        row = self._draws.next()
        if self._last is not None:
            row *= math.sqrt(1.0 - self._correlation**2)
            row += self._correlation * self._last
        self._last = row
        return row

    def state(self) -> dict[str, Any]:
        """See :class:`~bbrl_exp.policies.draws.Draws`."""
        last = None if self._last is None else torch.from_numpy(self._last.copy())
        return {"draws": self._draws.state(), "last": last}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See :class:`~bbrl_exp.policies.draws.Draws`."""
        self._draws.load_state(state["draws"])
        self._last = None if state["last"] is None else state["last"].numpy().copy()
