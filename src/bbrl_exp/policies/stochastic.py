"""The stochastic policy: categorical or normal actions around what a neural network makes of the observation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.streams import BlockedDraws, RandomStreams
from bbrl_exp.arguments import check_sizes
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.distributions import ActionDistribution
from bbrl_exp.nn.mlp import Mlp
from bbrl_exp.policies.action_heads import ActionHeads
from bbrl_exp.policies.observation import NetworkNode, ObservationFeatures
from bbrl_exp.policies.rows import RowsByBatchSize
from bbrl_exp.seeding import torch_generator


class StochasticPolicy(Agent):
    """Draws actions from distributions whose parameters a neural network computes from the observation.

    Discrete components are categorical over the network's logits; components of a box are normal around the network's
    output, with the standard deviation ``exp(log_std)``. Boxes of integers are not supported. In evaluation mode
    (``policy.eval()``) the most likely action is taken, unless ``policy.sample_actions()`` was called.

    Args:
        env_spec: facts of the environment.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        initial_log_std: initial value of every component of ``log_std``.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the action noise, which have separate streams.
        name: the agent's name.
        network: your own, which makes the features that the hidden layers see (docs/networks.md).

    Raises:
        ConfigurationError: a space or an activation that is not supported.
    """

    sampling = False

    def __init__(
        self,
        env_spec: EnvSpec,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        initial_log_std: float = 0.0,
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        check_sizes(hidden_sizes=hidden_sizes)
        generator = torch_generator(seed, "init", "mlp")
        self.features = ObservationFeatures(env_spec, observation_prefix, generator, network)
        self.heads = ActionHeads(env_spec.actions, initial_log_std)
        self.reads: tuple[str, ...] = self.features.names
        self.writes: tuple[str, ...] = self.heads.names
        sizes = [self.features.n_features, *hidden_sizes, self.heads.n_parameters]
        self.network = Mlp(sizes, activation, output_gain=0.01, generator=generator)
        self.noise = RandomStreams(self._noise_draws, seed)
        self._on_arrays = self.features.on_arrays(self.network) if len(env_spec.actions) == 1 else None
        self._rows = RowsByBatchSize(self.heads.row_facts)
        self._acting = (self.heads, self.noise)  # looking up a module takes as long as a draw

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes every action leaf at ``t``, ``[B, …]`` in the space's dtype."""
        heads, noise = self._acting
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            (observation,) = self.read_rows(t, self.reads)
            drawn = noise.next(len(observation)) if self.training or self.sampling else None
            actions = heads.actions_on_arrays(self._on_arrays(observation), drawn)
            self.write_rows(t, self._rows[self.prefix, len(observation)], [actions])
            return
        outputs = self.network(self.features([self.get((leaf, t)) for leaf in self.reads]))
        drawn = noise.next(len(outputs)) if self.training or self.sampling else None
        for leaf, action in zip(self.writes, heads.actions(outputs, drawn), strict=True):
            self.set((self.prefix + leaf, t), action)

    def latent(self, observations: Sequence[Tensor]) -> Tensor:
        """What the last hidden layer makes of N observations, one tensor ``[N, *shape]`` per leaf: ``[N, H]``."""
        return self.network.hidden(self.features(observations))

    @property
    def n_latent(self) -> int:
        """Number H of units of the last hidden layer."""
        return int(self.network.layers[-1].in_features)  # type: ignore[arg-type]

    def distribution_of(self, latent: Tensor) -> ActionDistribution:
        """The distributions over actions for ``[N, H]`` of :meth:`latent`."""
        return self.heads.distribution(self.network.output(latent))

    def distribution(self, observations: Sequence[Tensor]) -> ActionDistribution:
        """The distributions over actions for N observations, one tensor ``[N, *shape]`` per leaf."""
        return self.distribution_of(self.latent(observations))

    def _noise_draws(self, seed: int, batch_size: int) -> list[BlockedDraws]:
        return self.heads.draws(seed, self.name or "", batch_size)
