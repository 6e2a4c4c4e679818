"""The stochastic policy: categorical or normal actions around what a neural network makes of the observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.distributions import ActionDistribution
from bbrl_exp.nn.heads import CategoricalHead, GaussianHead
from bbrl_exp.nn.mlp import ArrayMlp, Mlp
from bbrl_exp.policies.draws import BlockedDraws, DrawsByBatchSize
from bbrl_exp.policies.observation import ObservationFeatures
from bbrl_exp.seeding import numpy_generator, torch_generator


class StochasticPolicy(Agent):
    """Draws actions from distributions whose parameters a neural network computes from the observation.

    Discrete components are categorical over the network's logits; components of a box are normal around the network's
    output, with the standard deviation ``exp(log_std)``. Boxes of integers are not supported. In evaluation mode
    (``policy.eval()``) the likeliest action is taken.

    Args:
        env_spec: facts of the environment.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        initial_log_std: initial value of every component of ``log_std``.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
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
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not all(isinstance(size, int) and size >= 1 for size in hidden_sizes):
            raise ConfigurationError(f"hidden_sizes={list(hidden_sizes)}: a list of whole numbers, none below 1")
        generator = torch_generator(seed, "init", "mlp")
        self.features = ObservationFeatures(env_spec, observation_prefix, generator)
        self.reads: tuple[str, ...] = self.features.names
        self.writes: tuple[str, ...] = tuple(leaf.name for leaf in env_spec.actions)
        self._heads = [action_head(leaf, initial_log_std) for leaf in env_spec.actions]
        self._n_parameters = [head.n_parameters for head in self._heads]
        self.heads = nn.ModuleList(self._heads)
        self.network = Mlp(
            [self.features.n_features, *hidden_sizes, sum(self._n_parameters)],
            activation,
            output_gain=0.01,
            generator=generator,
        )
        can_be_array = self.features.is_one_vector and len(self._heads) == 1 and ArrayMlp.supports(self.network)
        self._on_arrays = ArrayMlp(self.network) if can_be_array else None
        self._action_rows: dict[int, dict[str, tuple[tuple[int, ...], str]]] = {}
        self._leaves = env_spec.actions
        self._noise_for = DrawsByBatchSize(self._noise, seed)

    def seed(self, seed: int) -> None:
        self._noise_for.restart(seed)

    def take_slice(self, part: BatchSlice) -> None:
        """See :class:`~bbrl_exp.agents.slices.KnowsItsSlice`."""
        self._noise_for.take_slice(part)

    def run_state(self) -> dict[str, Any]:
        """Where the action noise stands."""
        return self._noise_for.state()

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with the noise from where :meth:`run_state` was taken."""
        self._noise_for.load_state(state)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype."""
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            self._act_on_arrays(self._on_arrays, t)
            return
        output = self.network(self.features([self.get((leaf, t)) for leaf in self.reads]))
        outputs = output.split(self._n_parameters, dim=1)
        if not self.training:
            for head, leaf, parameters in zip(self._heads, self.writes, outputs, strict=True):
                self.set((self.prefix + leaf, t), head.distribution(parameters).mode().to(head.dtype))
            return
        noise = self._noise_for(len(output))
        for head, leaf, parameters, draws in zip(self._heads, self.writes, outputs, noise, strict=True):
            drawn = torch.from_numpy(draws.next()).to(parameters.device)
            self.set((self.prefix + leaf, t), head(parameters, drawn))

    def latent(self, observations: Sequence[Tensor]) -> Tensor:
        """What the last hidden layer makes of N observations, one tensor ``[N, *shape]`` a leaf: ``[N, H]``."""
        return self.network.hidden(self.features(observations))

    @property
    def n_latent(self) -> int:
        """Number H of units of the last hidden layer."""
        return int(self.network.layers[-1].in_features)  # type: ignore[arg-type]

    def distribution_of(self, latent: Tensor) -> ActionDistribution:
        """The distributions over actions for ``[N, H]`` of :meth:`latent`."""
        outputs = torch.split(self.network.output(latent), self._n_parameters, dim=1)
        return ActionDistribution(
            [head.distribution(parameters) for head, parameters in zip(self._heads, outputs, strict=True)]
        )

    def distribution(self, observations: Sequence[Tensor]) -> ActionDistribution:
        """The distributions over actions for N observations, one tensor ``[N, *shape]`` a leaf."""
        return self.distribution_of(self.latent(observations))

    def _act_on_arrays(self, network: ArrayMlp, t: int) -> None:
        (observation,) = self.read_rows(t, self.reads)
        batch_size = len(observation)
        rows = self._action_rows.get(batch_size)
        if rows is None:
            leaf = self._leaves[0]
            rows = {self.prefix + leaf.name: ((batch_size, *leaf.shape), leaf.dtype)}
            self._action_rows[batch_size] = rows
        noise = self._noise_for(batch_size)[0].next() if self.training else None
        actions = self._heads[0].on_arrays(network(observation), noise)
        self.write_rows(t, rows, [actions.astype(self._leaves[0].dtype, copy=False)])

    def _noise(self, seed: int, batch_size: int) -> list[BlockedDraws]:
        return [
            BlockedDraws(
                head.draw, numpy_generator(seed, "action", self.name or "", index), (batch_size, head.n_parameters)
            )
            for index, head in enumerate(self._heads)
        ]


def action_head(leaf: LeafSpec, initial_log_std: float) -> CategoricalHead | GaussianHead:
    """The head for a leaf of an action.

    Raises:
        ConfigurationError: a box of integers.
    """
    dtype = torch.from_numpy(np.empty(0, dtype=leaf.dtype)).dtype
    if leaf.counts is not None:
        counts = leaf.counts.ravel().tolist()
        start = [0] * len(counts) if leaf.start is None else leaf.start.ravel().tolist()
        return CategoricalHead(counts, start, leaf.shape, dtype)
    if not dtype.is_floating_point:
        raise ConfigurationError(f"'{leaf.name}' is a box of {leaf.dtype}; this policy writes boxes of floats only")
    return GaussianHead(leaf.shape, dtype, initial_log_std)
