"""The deterministic policy of DDPG and TD3: a network's action, and noise on it while it explores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.arguments import AT_LEAST_0
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.policies.continuous import ContinuousPolicy
from bbrl_exp.policies.observation import NetworkNode


class DeterministicPolicy(ContinuousPolicy):
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
        network: your own, which makes the features that the hidden layers see (docs/networks.md).

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
        network: NetworkNode = None,
    ) -> None:
        AT_LEAST_0.check(noise_std=noise_std)
        super().__init__(
            env_spec,
            hidden_sizes,
            activation,
            noise_correlation,
            random_steps,
            observation_prefix,
            seed,
            name,
            network,
        )
        self._noise_std = noise_std

    def unit_actions(self, observations: Sequence[Tensor]) -> Tensor:
        """The actions without noise, float32 ``[N, D]`` in [-1, 1], for N observations, ``[N, *shape]`` per leaf."""
        return self.unit_of(self.network(self.features(observations)), None)

    def unit_of(self, outputs: Tensor, noise: Tensor | None) -> Tensor:
        unit = outputs.tanh()
        return unit if noise is None else (unit + self._noise_std * noise).clamp(-1.0, 1.0)

    def unit_of_arrays(self, outputs: NDArray[Any], noise: NDArray[Any] | None) -> NDArray[Any]:
        unit = np.asarray(np.tanh(outputs))
        return unit if noise is None else np.asarray(np.clip(unit + self._noise_std * noise, -1.0, 1.0))
