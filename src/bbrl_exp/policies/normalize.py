"""Agents that bring observations and rewards to a common scale, by statistics of what the environments have shown.

They come after the environment in the graph, and write their own variables beside the environment's, which stay as
they are: reported returns are those of the environment. The statistics are buffers, saved with the agents; in
evaluation mode (``graph.eval()``) and in the graph check nothing is learned. What a row is normalised with are the
statistics up to that row, all B environments of it included; so the statistics after a number of rows do not depend on
how many environments showed them, but the normalised values on the way do.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import ABOVE_0, FROM_0_TO_1
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.moments import RunningMoments
from bbrl_exp.policies.rows import RowsByBatchSize

PREFIX = "normalized/"
_REWARD, _DONE = "env/reward", "env/done"


class NormalizeObservation(Agent):
    """Writes ``normalized/<leaf>`` for every leaf of the observation: mean 0 and standard deviation 1, within ± limit.

    Boxes of floats are normalised component by component, to float32; images and everything discrete are copied. Each
    row counts once for each time that the agent runs on it in training mode: once in a run, for a row that begins a
    chunk is the last one of the chunk before.

    Args:
        env_spec: facts of the environment.
        limit: largest absolute value that is written.
        name: the agent's name.

    Raises:
        ConfigurationError: a limit that is not above 0.
    """

    def __init__(self, env_spec: EnvSpec, limit: float = 10.0, name: str | None = None) -> None:
        super().__init__(name)
        ABOVE_0.check(limit=limit)
        leaves = env_spec.observations
        self.reads: tuple[str, ...] = tuple(leaf.name for leaf in leaves)
        self.writes: tuple[str, ...] = tuple(PREFIX + leaf.name for leaf in leaves)
        self._limit = limit
        self._is_normalized = [leaf.kind == "box" and leaf.dtype.startswith("float") for leaf in leaves]
        self.moments = nn.ModuleList(
            RunningMoments(leaf.shape)
            for leaf, is_normalized in zip(leaves, self._is_normalized, strict=True)
            if is_normalized
        )
        self._rows = RowsByBatchSize(
            {
                target: (leaf.shape, "float32" if is_normalized else leaf.dtype)
                for target, leaf, is_normalized in zip(self.writes, leaves, self._is_normalized, strict=True)
            }
        )

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the normalised leaves at ``t``, ``[B, *shape]``."""
        all_moments = iter(cast("list[RunningMoments]", list(self.moments)))
        if self.is_on_cpu and not torch.is_grad_enabled():
            observations = self.read_rows(t, self.reads)
            arrays = []
            for leaf, is_normalized in zip(observations, self._is_normalized, strict=True):
                if is_normalized:
                    moments = next(all_moments)
                    if self.training:
                        moments.update_from_array(leaf)
                    arrays.append(moments.standardized_array(leaf, self._limit))
                else:
                    arrays.append(leaf)
            self.write_rows(t, self._rows["", len(observations[0])], arrays)
            return
        for name, target, is_normalized in zip(self.reads, self.writes, self._is_normalized, strict=True):
            row = self.get((name, t))
            if is_normalized:
                moments = next(all_moments)
                if self.training:
                    moments.update(row)
                row = moments.standardized(row, self._limit)
            self.set((target, t), row)


class NormalizeReward(Agent):
    """Writes ``normalized/env/reward``: the reward divided by the standard deviation of the discounted return so far.

    The running return of an environment, R_t = γ R_{t-1} + r_t, restarts with each episode; it is written as
    ``normalized/discounted_return``, so that it continues from chunk to chunk. Rewards are not centred: that would
    change what the best policy is. A learner takes them by ``reward: normalized/env/reward``, and ``env/reward`` is not
    changed.

    Args:
        discount: γ, that of the learner.
        limit: largest absolute value that is written.
        name: the agent's name.

    Raises:
        ConfigurationError: a limit that is not above 0, or a discount outside 0 … 1.
    """

    def __init__(self, discount: float = 0.99, limit: float = 10.0, name: str | None = None) -> None:
        super().__init__(name)
        ABOVE_0.check(limit=limit)
        FROM_0_TO_1.check(discount=discount)
        self.reads: tuple[str, ...] = (_REWARD, _DONE)
        self._return = PREFIX + "discounted_return"
        self.writes: tuple[str, ...] = (PREFIX + _REWARD, self._return)
        self._discount = discount
        self._limit = limit
        self.moments = RunningMoments(())
        self._rows = RowsByBatchSize(dict.fromkeys(self.writes, ((), "float32")))

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the reward and the running return at ``t``, ``[B]``; both are 0 where an episode begins."""
        if self.is_on_cpu and not torch.is_grad_enabled():
            self._forward_on_arrays(t)
            return
        reward = self.get((_REWARD, t))
        running = torch.zeros_like(reward)
        if t > 0:
            goes_on = ~self.get((_DONE, t - 1))
            running = (self.get((self._return, t - 1)) * self._discount + reward) * goes_on
            if self.training and bool(goes_on.any()):
                self.moments.update(running[goes_on])
        self.set((PREFIX + _REWARD, t), self.moments.scaled(reward, self._limit))
        self.set((self._return, t), running)

    def _forward_on_arrays(self, t: int) -> None:
        (reward,) = self.read_rows(t, (_REWARD,))
        running = np.zeros_like(reward)
        if t > 0:
            done, before = self.read_rows(t - 1, (_DONE, self._return))
            goes_on = ~done
            running = (before * self._discount + reward) * goes_on
            if self.training and goes_on.any():
                self.moments.update_from_array(running[goes_on])
        rows = [self.moments.scaled_array(reward, self._limit), running.astype(np.float32)]
        self.write_rows(t, self._rows["", len(reward)], rows)
