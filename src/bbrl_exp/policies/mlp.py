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
from bbrl_exp.nn.mlp import ArrayMlp, Mlp
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
        if not all(isinstance(size, int) and size >= 1 for size in hidden_sizes):
            raise ConfigurationError(f"hidden_sizes={list(hidden_sizes)}: a list of whole numbers, none below 1")
        self.reads: tuple[str, ...] = tuple(leaf.name for leaf in env_spec.observations)
        self.writes: tuple[str, ...] = tuple(leaf.name for leaf in env_spec.actions)
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
        self._on_arrays = self._array_network(env_spec)
        self._action_rows: dict[int, dict[str, tuple[tuple[int, ...], str]]] = {}
        self._leaves = env_spec.actions
        self._root_seed = seed
        self._noise: dict[int, list[BlockedDraws]] = {}

    def seed(self, seed: int) -> None:
        self._root_seed = seed
        self._noise = {}

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype."""
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            self._act_on_arrays(self._on_arrays, t)
            return
        parts = [part(self.get((leaf, t))) for part, leaf in zip(self.features, self.reads, strict=True)]
        output = self.network(torch.cat(parts, dim=1))
        outputs = output.split(self._n_parameters, dim=1)
        noise = self._noise_for(len(output))
        for head, leaf, parameters, draws in zip(self._heads, self.writes, outputs, noise, strict=True):
            drawn = torch.from_numpy(draws.next()).to(parameters.device)
            self.set((self.prefix + leaf, t), head(parameters, drawn))

    def _array_network(self, env_spec: EnvSpec) -> ArrayMlp | None:
        """The network on arrays, where one float32 vector is all that it reads and the action is one leaf."""
        leaf = env_spec.observations[0]
        is_vector = len(env_spec.observations) == 1 and len(leaf.shape) == 1 and leaf.dtype == "float32"
        if is_vector and len(self._heads) == 1 and ArrayMlp.supports(self.network):
            return ArrayMlp(self.network)
        return None

    def _act_on_arrays(self, network: ArrayMlp, t: int) -> None:
        (observation,) = self.read_rows(t, self.reads)
        batch_size = len(observation)
        rows = self._action_rows.get(batch_size)
        if rows is None:
            leaf = self._leaves[0]
            rows = {self.prefix + leaf.name: ((batch_size, *leaf.shape), leaf.dtype)}
            self._action_rows[batch_size] = rows
        (draws,) = self._noise_for(batch_size)
        actions = self._heads[0].on_arrays(network(observation), draws.next())
        self.write_rows(t, rows, [actions.astype(self._leaves[0].dtype, copy=False)])

    def _noise_for(self, batch_size: int) -> list[BlockedDraws]:
        noise = self._noise.get(batch_size)
        if noise is None:
            noise = self._noise[batch_size] = [
                BlockedDraws(
                    head.draw,
                    numpy_generator(self._root_seed, "action", self.name or "", index),
                    (batch_size, head.n_parameters),
                )
                for index, head in enumerate(self._heads)
            ]
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
