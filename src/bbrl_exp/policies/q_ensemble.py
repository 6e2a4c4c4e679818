"""Ensembles of critics of state and action: what acting so, and then by the policy, is expected to bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AT_LEAST_1, check_sizes
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.ensemble import DropoutSource, EnsembleMlp
from bbrl_exp.policies.bounds import ActionBounds
from bbrl_exp.policies.observation import NetworkNode, ObservationFeatures
from bbrl_exp.policies.q_network import discrete_action
from bbrl_exp.seeding import torch_generator


class QEnsemble(Agent):
    """M critics of continuous actions, each of which gives a value, or K quantiles of the return.

    As a member of the graph, after the policy, it writes ``critic/q_value``, float32 ``[B]``: the mean over critics of
    the value of the action chosen. Learners call it on batches, so it need not be a member.

    Args:
        env_spec: facts of the environment.
        n_critics: number M of critics, with separate weights; they share convolutions and ``network``.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        normalization: ``none``, ``layer`` or ``batch``; see :class:`bbrl_exp.nn.ensemble.EnsembleMlp`.
        dropout: probability with which a hidden unit is silent while learning.
        n_quantiles: number K of quantiles; 1 for a plain value.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights.
        name: the agent's name.
        network: your own, one for all critics, which makes the features that their hidden layers see
            (docs/networks.md).

    Raises:
        ConfigurationError: the action is no bounded box of floats, or a value out of its range.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        n_critics: int = 2,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        normalization: Literal["none", "layer", "batch"] = "none",
        dropout: float = 0.0,
        n_quantiles: int = 1,
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        AT_LEAST_1.check(n_critics=n_critics, n_quantiles=n_quantiles)
        check_sizes(hidden_sizes=hidden_sizes)
        generator = torch_generator(seed, "init", "critic")
        self.bounds = ActionBounds(env_spec)
        self.features = ObservationFeatures(env_spec, observation_prefix, generator, network)
        self.reads: tuple[str, ...] = (*self.features.names, self.bounds.variable)
        self.writes: tuple[str, ...] = ("critic/q_value",)
        self.n_critics = n_critics
        self.n_quantiles = n_quantiles
        sizes = [self.features.n_features + self.bounds.n_components, *hidden_sizes, n_quantiles]
        self.network = EnsembleMlp(n_critics, sizes, activation, normalization, dropout, generator)

    def quantiles(
        self, observations: Sequence[Tensor], unit_actions: Tensor, dropout_generator: DropoutSource | None = None
    ) -> Tensor:
        """Quantiles of the return, in no order, float32 ``[M, N, K]``.

        Args:
            observations: one tensor ``[N, *shape]`` per leaf.
            unit_actions: in [-1, 1], ``[N, D]``.
            dropout_generator: source of the units that are silent; without one, none is.
        """
        inputs = torch.cat((self.features(observations), unit_actions), dim=1)
        return self.network(inputs, dropout_generator)  # type: ignore[no-any-return]

    def values(
        self, observations: Sequence[Tensor], unit_actions: Tensor, dropout_generator: DropoutSource | None = None
    ) -> Tensor:
        """Values float32 ``[M, N]``, the means of :meth:`quantiles`."""
        quantiles = self.quantiles(observations, unit_actions, dropout_generator)
        return quantiles.squeeze(2) if self.n_quantiles == 1 else quantiles.mean(dim=2)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes ``critic/q_value`` at ``t``."""
        *observations, actions = (self.get((name, t)) for name in self.reads)
        values = self.values(observations, self.bounds.to_unit(actions))
        self.set((self.prefix + self.writes[0], t), values.mean(dim=0))


class DiscreteQEnsemble(Agent):
    """M critics that value every one of A discrete actions at once.

    As a member of the graph it writes ``critic/q_values``, float32 ``[B, A]``: the mean over critics.

    Args:
        env_spec: facts of the environment.
        n_critics: number M of critics, with separate weights; they share convolutions and ``network``.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        normalization: ``none``, ``layer`` or ``batch``; see :class:`bbrl_exp.nn.ensemble.EnsembleMlp`.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights.
        name: the agent's name.
        network: your own, one for all critics, which makes the features that their hidden layers see
            (docs/networks.md).

    Raises:
        ConfigurationError: the action is anything but one discrete action, or a value out of its range.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        n_critics: int = 2,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        normalization: Literal["none", "layer", "batch"] = "none",
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        AT_LEAST_1.check(n_critics=n_critics)
        check_sizes(hidden_sizes=hidden_sizes)
        self.n_actions, self.first_action = discrete_action(env_spec)
        generator = torch_generator(seed, "init", "critic")
        self.features = ObservationFeatures(env_spec, observation_prefix, generator, network)
        self.reads: tuple[str, ...] = self.features.names
        self.writes: tuple[str, ...] = ("critic/q_values",)
        sizes = [self.features.n_features, *hidden_sizes, self.n_actions]
        self.network = EnsembleMlp(n_critics, sizes, activation, normalization, generator=generator)

    def values(self, observations: Sequence[Tensor]) -> Tensor:
        """Values of every action, float32 ``[M, N, A]``, for N observations, one tensor ``[N, *shape]`` per leaf."""
        return self.network(self.features(observations))  # type: ignore[no-any-return]

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes ``critic/q_values`` at ``t``."""
        values = self.values([self.get((name, t)) for name in self.reads])
        self.set((self.prefix + self.writes[0], t), values.mean(dim=0))
