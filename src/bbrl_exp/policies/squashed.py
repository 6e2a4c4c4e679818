"""The stochastic policy of SAC and its kin: a normal distribution squashed into the bounds of the actions by tanh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.functional.squashing import SquashedSample, squashed_normal
from bbrl_exp.policies.continuous import ContinuousPolicy

_SMALLEST_LOG_STD = -20.0
_LARGEST_LOG_STD = 2.0


class SquashedNormalPolicy(ContinuousPolicy):
    """Writes tanh(μ(observation) + σ(observation) noise), scaled to the bounds of the environment's actions.

    In evaluation mode (``policy.eval()``) it writes tanh(μ), without noise and without actions at random; after
    ``policy.sample_actions()`` with noise that is independent at every step.

    Args:
        env_spec: facts of the environment.
        hidden_sizes: units of the hidden layers, which μ and log σ share.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``.
        noise_correlation: of the noise between a step and the next one, below 1. Learners draw their own noise.
        random_steps: environment steps at the beginning, all environments together, with actions drawn uniformly.
        observation_prefix: of the variables to read instead of the environment's own, such as ``normalized/``.
        seed: root seed of the initial weights and of the exploration, which have separate streams.
        name: the agent's name.
        network: your own, which makes the features that the hidden layers see (docs/networks.md).

    Raises:
        ConfigurationError: the action is no bounded box of floats, or a value out of its range.
    """

    sampling = False
    outputs_per_component: ClassVar[int] = 2

    def mean_and_log_std(self, observations: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """μ and log σ, before the squashing, ``[N, D]`` each, for N observations, ``[N, *shape]`` per leaf."""
        return _mean_and_log_std(self.network(self.features(observations)))

    def sample(self, observations: Sequence[Tensor], noise: Tensor) -> SquashedSample:
        """Actions in [-1, 1] with their log-densities, reparametrised.

        Args:
            observations: one tensor ``[N, *shape]`` per leaf.
            noise: standard normal, ``[N, D]``.
        """
        return sample_squashed(self.network(self.features(observations)), noise)

    def unit_of(self, outputs: Tensor, noise: Tensor | None) -> Tensor:
        return squash(outputs, noise)

    def unit_of_arrays(self, outputs: NDArray[Any], noise: NDArray[Any] | None) -> NDArray[Any]:
        return squash_arrays(outputs, noise)


def sample_squashed(outputs: Tensor, noise: Tensor) -> SquashedSample:
    """Actions in [-1, 1] with their log-densities for μ and log σ side by side, ``[N, 2 D]``, and noise ``[N, D]``."""
    return squashed_normal(*_mean_and_log_std(outputs), noise)


def squash(outputs: Tensor, noise: Tensor | None) -> Tensor:
    """The same actions alone; tanh(μ) without noise."""
    mean, log_std = _mean_and_log_std(outputs)
    return mean.tanh() if noise is None else (mean + log_std.exp() * noise).tanh()


def squash_arrays(outputs: NDArray[Any], noise: NDArray[Any] | None) -> NDArray[Any]:
    """The same as :func:`squash` on arrays."""
    mean, log_std = np.split(outputs, 2, axis=1)
    if noise is not None:
        mean = mean + np.exp(np.clip(log_std, _SMALLEST_LOG_STD, _LARGEST_LOG_STD)) * noise
    return np.asarray(np.tanh(mean))


def _mean_and_log_std(outputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_std = outputs.chunk(2, dim=1)
    return mean, log_std.clamp(_SMALLEST_LOG_STD, _LARGEST_LOG_STD)
