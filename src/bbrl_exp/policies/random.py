"""The random agent: every action is as likely as any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.streams import BlockedDraws, RandomStreams
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.policies.rows import RowsByBatchSize
from bbrl_exp.seeding import numpy_generator


class RandomAgent(Agent):
    """Writes actions drawn from the action space, independently at every step.

    Discrete components and bounded boxes are drawn uniformly; an unbounded component of a box from the normal
    distribution, one bounded on one side from the exponential one beyond its bound.

    Args:
        env_spec: facts of the environment.
        seed: root seed of the agent's stream.
        name: the agent's name.
    """

    sampling = False  # it always draws: there is no most likely action

    def __init__(self, env_spec: EnvSpec, seed: int = 0, name: str | None = None) -> None:
        super().__init__(name)
        self.env_spec = env_spec
        self.writes: tuple[str, ...] = tuple(leaf.name for leaf in env_spec.actions)
        self.stream = RandomStreams(self._action_draws, seed)
        self._rows = RowsByBatchSize({leaf.name: (leaf.shape, leaf.dtype) for leaf in env_spec.actions})
        self._next_actions = self.stream.next  # looking up a module takes as long as a draw

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype."""
        actions = self._next_actions(self.env_spec.batch_size)
        if self.is_on_cpu:
            self.write_rows(t, self._rows[self.prefix, len(actions[0])], actions)
            return
        for leaf, action in zip(self.writes, actions, strict=True):
            self.set((self.prefix + leaf, t), torch.from_numpy(action).to(self.agent_device))

    def _action_draws(self, seed: int, batch_size: int) -> list[BlockedDraws]:
        return [
            BlockedDraws(
                _uniform(leaf), numpy_generator(seed, "action", self.name or "", index), (batch_size, *leaf.shape)
            )
            for index, leaf in enumerate(self.env_spec.actions)
        ]


def _uniform(leaf: LeafSpec) -> Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]:
    """What draws values of the leaf's space."""
    dtype = np.dtype(leaf.dtype)
    if leaf.counts is not None:
        start = leaf.start if leaf.start is not None else np.zeros(leaf.shape, dtype=np.int64)
        counts = leaf.counts
        return lambda generator, shape: generator.integers(start, start + counts, size=shape).astype(dtype)
    assert leaf.low is not None
    assert leaf.high is not None
    if dtype.kind in "iu":
        low, high = leaf.low.astype(np.int64), leaf.high.astype(np.int64)
        return lambda generator, shape: generator.integers(low, high, size=shape, endpoint=True).astype(dtype)
    return _Box(leaf.low.astype(np.float64), leaf.high.astype(np.float64), dtype)


class _Box:
    """Draws from a floating-point box."""

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64], dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._has_low, self._has_high = np.isfinite(low), np.isfinite(high)
        self._low, self._high = np.where(self._has_low, low, 0.0), np.where(self._has_high, high, 0.0)

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        uniform = self._low + (self._high - self._low) * generator.random(shape)
        if not (self._has_low & self._has_high).all():
            tail = generator.standard_exponential(shape)
            uniform = np.select(
                [self._has_low & self._has_high, self._has_low, self._has_high],
                [uniform, self._low + tail, self._high - tail],
                default=generator.standard_normal(shape),
            )
        return np.asarray(uniform, dtype=self._dtype)
