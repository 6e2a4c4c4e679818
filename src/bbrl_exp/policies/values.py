"""Critics: agents that estimate what a state is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import check_sizes
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.mlp import Mlp
from bbrl_exp.policies.observation import NetworkNode, ObservationFeatures
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.seeding import torch_generator


class Critic(Agent):
    """An agent that writes ``critic/value``, float32 ``[B]``: the expected discounted sum of future rewards.

    Learners call :meth:`values` on whole chunks, so a critic need not be a member of the graph; as a member, it shows
    its values in the workspace.
    """

    features: ObservationFeatures

    def values(self, observations: Sequence[Tensor], policy_latent: Tensor | None = None) -> Tensor:
        """Values ``[N]`` of N observations.

        Args:
            observations: one tensor ``[N, *shape]`` per leaf.
            policy_latent: what the policy's ``latent`` made of them, if it has been computed already.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define values")

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes ``critic/value`` at ``t``."""
        self.set((f"{self.prefix}critic/value", t), self.values([self.get((name, t)) for name in self.features.names]))


class ValueCritic(Critic):
    """A critic with its own network.

    Args:
        env_spec: facts of the environment.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights.
        name: the agent's name.
        network: your own, which makes the features that the hidden layers see (docs/networks.md).
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__(name)
        check_sizes(hidden_sizes=hidden_sizes)
        generator = torch_generator(seed, "init", "critic")
        self.features = ObservationFeatures(env_spec, observation_prefix, generator, network)
        self.network = Mlp([self.features.n_features, *hidden_sizes, 1], activation, generator=generator)

    def values(self, observations: Sequence[Tensor], policy_latent: Tensor | None = None) -> Tensor:
        return self.network(self.features(observations)).squeeze(1)  # type: ignore[no-any-return]


class SharedTrunkCritic(Critic):
    """One linear layer on the policy's last hidden layer: network, convolutions and hidden layers are shared.

    Args:
        policy: whose trunk is shared.
        seed: root seed of the initial weights.
        name: the agent's name.
    """

    def __init__(self, policy: StochasticPolicy, seed: int = 0, name: str | None = None) -> None:
        super().__init__(name)
        self.policy = policy
        self.features = policy.features
        self.output = nn.Linear(policy.n_latent, 1)
        nn.init.orthogonal_(self.output.weight, generator=torch_generator(seed, "init", "critic"))
        nn.init.zeros_(self.output.bias)

    def values(self, observations: Sequence[Tensor], policy_latent: Tensor | None = None) -> Tensor:
        latent = self.policy.latent(observations) if policy_latent is None else policy_latent
        return self.output(latent).squeeze(1)  # type: ignore[no-any-return]
