"""The deterministic policy of DDPG and TD3: a network's action, and noise on it while it explores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AT_LEAST_0
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.nn.mlp import ArrayMlp, Mlp
from bbrl_exp.policies.bounds import ActionBounds
from bbrl_exp.policies.exploration import Exploration
from bbrl_exp.policies.observation import ObservationFeatures
from bbrl_exp.seeding import torch_generator


class DeterministicPolicy(Agent):
    """Writes clip(tanh(f(observation)) + σ noise, -1, 1), scaled to the bounds of the environment's actions.

    In evaluation mode (``policy.eval()``) there is no noise and no action at random.

    Args:
        env_spec: facts of the environment.
        hidden_sizes: units of the hidden layers.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        noise_std: σ, where actions are between -1 and 1.
        noise_correlation: of the noise between a step and the next one, below 1.
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
        noise_std: float = 0.1,
        noise_correlation: float = 0.0,
        random_steps: int = 0,
        observation_prefix: str = "",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        AT_LEAST_0.check(noise_std=noise_std)
        generator = torch_generator(seed, "init", "policy")
        self.bounds = ActionBounds(env_spec)
        self.features = ObservationFeatures(env_spec, observation_prefix, generator)
        self.reads: tuple[str, ...] = self.features.names
        self.writes: tuple[str, ...] = (self.bounds.variable,)
        sizes = [self.features.n_features, *hidden_sizes, self.bounds.n_components]
        self.network = Mlp(sizes, activation, output_gain=0.01, generator=generator)
        self.exploration = Exploration(self.bounds.n_components, random_steps, noise_correlation, seed, name)
        self._noise_std = noise_std
        can_be_array = self.features.is_one_vector and ArrayMlp.supports(self.network)
        self._on_arrays = ArrayMlp(self.network) if can_be_array else None

    def seed(self, seed: int) -> None:
        self.exploration.restart(seed)

    def unit_actions(self, observations: Sequence[Tensor]) -> Tensor:
        """The actions without noise, float32 ``[N, D]`` in [-1, 1], for N observations, ``[N, *shape]`` a leaf."""
        return self.network(self.features(observations)).tanh()  # type: ignore[no-any-return]

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes the action at ``t``, ``[B, *shape]`` in the space's dtype."""
        if self._on_arrays is not None and self.is_on_cpu and not torch.is_grad_enabled():
            (observation,) = self.read_rows(t, self.reads)
            actions = self.bounds.from_unit_on_arrays(self._act_on_arrays(self._on_arrays, observation))
            self.write_rows(t, self.bounds.rows(self.prefix, len(actions)), [actions])
            return
        unit = self.unit_actions([self.get((name, t)) for name in self.reads])
        if self.training:
            uniform = self.exploration.uniform(len(unit))
            if uniform is not None:
                unit = torch.from_numpy(uniform).to(unit.device)
            else:
                noise = torch.from_numpy(self.exploration.normal(len(unit))).to(unit.device)
                unit = (unit + self._noise_std * noise).clamp(-1.0, 1.0)
        self.set((self.prefix + self.bounds.variable, t), self.bounds.from_unit(unit))

    def _act_on_arrays(self, network: ArrayMlp, observation: NDArray[Any]) -> NDArray[Any]:
        if not self.training:
            return np.asarray(np.tanh(network(observation)))
        uniform = self.exploration.uniform(len(observation))
        if uniform is not None:
            return uniform
        noise = self._noise_std * self.exploration.normal(len(observation))
        return np.asarray(np.clip(np.tanh(network(observation)) + noise, -1.0, 1.0))
