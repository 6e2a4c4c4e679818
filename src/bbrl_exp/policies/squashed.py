"""The stochastic policy of SAC and its kin: a normal distribution squashed into the bounds of the actions by tanh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.functional.squashing import SquashedSample, squashed_normal
from bbrl_exp.nn.mlp import ArrayMlp, Mlp
from bbrl_exp.policies.bounds import ActionBounds
from bbrl_exp.policies.exploration import Exploration
from bbrl_exp.policies.observation import ObservationFeatures
from bbrl_exp.seeding import torch_generator

_SMALLEST_LOG_STD = -20.0
_LARGEST_LOG_STD = 2.0


class SquashedNormalPolicy(Agent):
    """Writes tanh(μ(observation) + σ(observation) noise), scaled to the bounds of the environment's actions.

    In evaluation mode (``policy.eval()``) it writes tanh(μ), without noise and without actions at random.

    Args:
        env_spec: facts of the environment.
        hidden_sizes: units of the hidden layers, which μ and log σ share.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        noise_correlation: of the noise between a step and the next one, below 1. Learners draw noise of their own.
        random_steps: environment steps at the beginning, all environments together, with actions drawn uniformly.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the exploration, which have separate streams.
        name: the agent's name.

    Raises:
        ConfigurationError: the action is no bounded box of floats, or a value out of its range.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        noise_correlation: float = 0.0,
        random_steps: int = 0,
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        generator = torch_generator(seed, "init", "policy")
        self.bounds = ActionBounds(env_spec)
        self.features = ObservationFeatures(env_spec, observation_prefix, generator)
        self.reads: tuple[str, ...] = self.features.names
        self.writes: tuple[str, ...] = (self.bounds.variable,)
        sizes = [self.features.n_features, *hidden_sizes, 2 * self.bounds.n_components]
        self.network = Mlp(sizes, activation, output_gain=0.01, generator=generator)
        self.exploration = Exploration(self.bounds.n_components, random_steps, noise_correlation, seed, name)
        can_be_array = self.features.is_one_vector and ArrayMlp.supports(self.network)
        self._on_arrays = ArrayMlp(self.network) if can_be_array else None

    def seed(self, seed: int) -> None:
        self.exploration.restart(seed)

    def mean_and_log_std(self, observations: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """μ and log σ, before the squashing, ``[N, D]`` each, for N observations, one tensor ``[N, *shape]`` a leaf."""
        mean, log_std = self.network(self.features(observations)).chunk(2, dim=1)
        return mean, log_std.clamp(_SMALLEST_LOG_STD, _LARGEST_LOG_STD)

    def sample(self, observations: Sequence[Tensor], noise: Tensor) -> SquashedSample:
        """Actions in [-1, 1] with their log-densities, reparametrised.

        Args:
            observations: one tensor ``[N, *shape]`` a leaf.
            noise: standard normal, ``[N, D]``.
        """
        mean, log_std = self.mean_and_log_std(observations)
        return squashed_normal(mean, log_std, noise)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the action at ``t``, ``[B, *shape]`` in the space's dtype."""
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            (observation,) = self.read_rows(t, self.reads)
            actions = self.bounds.from_unit_on_arrays(self._act_on_arrays(self._on_arrays, observation))
            self.write_rows(t, self.bounds.rows(self.prefix, len(actions)), [actions])
            return
        observations = [self.get((name, t)) for name in self.reads]
        mean, log_std = self.mean_and_log_std(observations)
        if not self.training:
            unit = mean.tanh()
        elif (uniform := self.exploration.uniform(len(mean))) is not None:
            unit = torch.from_numpy(uniform).to(mean.device)
        else:
            noise = torch.from_numpy(self.exploration.normal(len(mean))).to(mean.device)
            unit = (mean + log_std.exp() * noise).tanh()
        self.set((self.prefix + self.bounds.variable, t), self.bounds.from_unit(unit))

    def _act_on_arrays(self, network: ArrayMlp, observation: NDArray[Any]) -> NDArray[Any]:
        if self.training:
            uniform = self.exploration.uniform(len(observation))
            if uniform is not None:
                return uniform
        mean, log_std = np.split(network(observation), 2, axis=1)
        if not self.training:
            return np.asarray(np.tanh(mean))
        std = np.exp(np.clip(log_std, _SMALLEST_LOG_STD, _LARGEST_LOG_STD))
        return np.asarray(np.tanh(mean + std * self.exploration.normal(len(observation))))
