"""The random agent: every action is as likely as any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.policies.draws import BlockedDraws, Draws, DrawsOfSlice
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

    def __init__(self, env_spec: EnvSpec, seed: int = 0, name: str | None = None) -> None:
        super().__init__(name)
        self.env_spec = env_spec
        self.writes = tuple(leaf.name for leaf in env_spec.actions)
        self._root_seed = seed
        self._part: BatchSlice | None = None
        self._draws: list[Draws] = []
        self._rows: dict[str, tuple[tuple[int, ...], str]] = {}

    def seed(self, seed: int) -> None:
        self._root_seed = seed
        self._draws = []

    def take_slice(self, part: BatchSlice) -> None:
        """See :class:`~bbrl_exp.agents.slices.KnowsItsSlice`."""
        self._part = part
        self._draws = []

    def run_state(self) -> dict[str, Any]:
        """The root seed, and where the draws of each action leaf stand; none where there were none yet."""
        return {"seed": self._root_seed, "draws": [draws.state() for draws in self._draws]}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with the draws from where :meth:`run_state` was taken."""
        self.seed(state["seed"])
        if state["draws"]:
            self._start()
        for draws, saved in zip(self._draws, state["draws"], strict=True):
            draws.load_state(saved)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype."""
        if not self._draws:
            self._start()
        actions = [draws.next() for draws in self._draws]
        if self.is_on_cpu:
            self.write_rows(t, self._rows, actions)
            return
        for variable, action in zip(self._rows, actions, strict=True):
            self.set((variable, t), torch.from_numpy(action).to(self.agent_device))

    def _start(self) -> None:
        for index, leaf in enumerate(self.env_spec.actions):
            generator = numpy_generator(self._root_seed, "action", self.name or "", index)
            batch_size, part = self.env_spec.batch_size, self._part
            draws: Draws = BlockedDraws(_uniform(leaf), generator, (batch_size, *leaf.shape))
            if part is not None:
                batch_size, draws = part.count, DrawsOfSlice(draws, part)
            self._draws.append(draws)
            self._rows[self.prefix + leaf.name] = ((batch_size, *leaf.shape), leaf.dtype)


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
