"""A stochastic policy that is a multi-layer perceptron, untrained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.features import Flat, OneHot
from bbrl_exp.nn.heads import CategoricalHead, GaussianHead
from bbrl_exp.nn.mlp import Mlp
from bbrl_exp.policies.draws import BlockedDraws
from bbrl_exp.seeding import numpy_generator, torch_generator


class MlpAgent(Agent):
    """Draws actions from distributions whose parameters a multi-layer perceptron computes from the observation.

    Discrete components are categorical over the network's logits; components of a box are normal around the network's
    output, with the standard deviation ``exp(log_std)``. Boxes of integers are not supported. Observations are
    flattened to one vector, discrete ones as one-hot vectors, uint8 images divided by 255.

    Args:
        env_spec: facts of the environment.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        initial_log_std: initial value of every component of ``log_std``.
        seed: root seed of the initial weights and of the action noise, which have separate streams.
        name: the agent's name.

    Raises:
        ConfigurationError: a space or an activation that is not supported.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        initial_log_std: float = 0.0,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.reads = tuple(leaf.name for leaf in env_spec.observations)
        self.writes = tuple(leaf.name for leaf in env_spec.actions)
        features = [_features(leaf) for leaf in env_spec.observations]
        self._heads = [_head(leaf, initial_log_std) for leaf in env_spec.actions]
        self._n_parameters = [head.n_parameters for head in self._heads]
        self.features = nn.ModuleList(features)
        self.heads = nn.ModuleList(self._heads)
        self.network = Mlp(
            [sum(part.n_features for part in features), *hidden_sizes, sum(self._n_parameters)],
            activation,
            output_gain=0.01,
            generator=torch_generator(seed, "init", "mlp"),
        )
        self._root_seed = seed
        self._noise: dict[int, list[BlockedDraws]] = {}

    def seed(self, seed: int) -> None:
        self._root_seed = seed
        self._noise = {}

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype."""
        assert self.reads is not None
        assert self.writes is not None
        parts = [part(self.get((leaf, t))) for part, leaf in zip(self.features, self.reads, strict=True)]
        output = self.network(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        outputs = (output,) if len(self._heads) == 1 else output.split(self._n_parameters, dim=1)
        noise = self._noise.get(len(output)) or self._start_noise(len(output), output.device)
        for head, leaf, parameters, draws in zip(self._heads, self.writes, outputs, noise, strict=True):
            self.set((self.prefix + leaf, t), head(parameters, draws.next()))

    def _start_noise(self, batch_size: int, device: torch.device) -> list[BlockedDraws]:
        noise = [
            BlockedDraws(
                head.draw,
                numpy_generator(self._root_seed, "action", self.name or "", index),
                (batch_size, head.n_parameters),
                device,
            )
            for index, head in enumerate(self._heads)
        ]
        self._noise[batch_size] = noise
        return noise


def _features(leaf: LeafSpec) -> OneHot | Flat:
    if leaf.kind in ("discrete", "multi_discrete"):
        counts = cast("np.ndarray[Any, Any]", leaf.counts).ravel().tolist()
        return OneHot(counts, [0] * len(counts) if leaf.start is None else leaf.start.ravel().tolist())
    return Flat(leaf.size, scale=1 / 255 if leaf.dtype == "uint8" else 1.0)


def _head(leaf: LeafSpec, initial_log_std: float) -> CategoricalHead | GaussianHead:
    dtype = torch.from_numpy(np.empty(0, dtype=leaf.dtype)).dtype
    if leaf.counts is not None:
        counts = leaf.counts.ravel().tolist()
        start = [0] * len(counts) if leaf.start is None else leaf.start.ravel().tolist()
        return CategoricalHead(counts, start, leaf.shape, dtype)
    if not dtype.is_floating_point:
        raise ConfigurationError(f"'{leaf.name}' is a box of {leaf.dtype}; this policy writes boxes of floats only")
    return GaussianHead(leaf.shape, dtype, initial_log_std)
