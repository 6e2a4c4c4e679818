"""BBRL's distributions over actions, on those of torch.

A distribution is made for a size of action; :meth:`proba_distribution` then gives it the outputs of a network, ``[B,
…]``, and returns it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Self

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.squashing import log_tanh_derivative


def get_action_dim(action_space: Any) -> int:
    """Number of components of an action.

    Raises:
        ConfigurationError: a space that is not supported.
    """
    if isinstance(action_space, spaces.Box | spaces.MultiDiscrete):
        return int(torch.Size(action_space.shape).numel())
    if isinstance(action_space, spaces.Discrete):
        return 1
    if isinstance(action_space, spaces.MultiBinary):
        return int(torch.Size(action_space.shape).numel())
    raise ConfigurationError(f"action space {action_space}: must be Box, Discrete, MultiDiscrete or MultiBinary")


def sum_independent_dims(tensor: Tensor) -> Tensor:
    """Sums the last dimension of ``[B, K]``; of a tensor ``[B]``, all."""
    return tensor.sum(dim=1) if tensor.dim() > 1 else tensor.sum()


class Distribution:
    """B distributions over actions."""

    distribution: Any

    def proba_distribution_net(self, latent_dim: int, *args: Any, **kwargs: Any) -> Any:
        """The last layer of a network, from ``latent_dim`` features."""
        raise NotImplementedError(f"{type(self).__name__} does not define proba_distribution_net")

    def proba_distribution(self, *args: Any, **kwargs: Any) -> Self:
        """Takes the outputs of a network, and returns the distribution."""
        raise NotImplementedError(f"{type(self).__name__} does not define proba_distribution")

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probabilities or log-densities, ``[B]``."""
        return sum_independent_dims(self.distribution.log_prob(actions))

    def entropy(self) -> Tensor | None:
        """Entropies, ``[B]``; None where there is no formula."""
        return sum_independent_dims(self.distribution.entropy())

    def sample(self) -> Tensor:
        """Actions; with a gradient where the distribution has one."""
        drawn: Tensor = self.distribution.rsample() if self.distribution.has_rsample else self.distribution.sample()
        return drawn

    def mode(self) -> Tensor:
        """The most likely actions."""
        most_likely: Tensor = self.distribution.mode
        return most_likely

    def get_actions(self, deterministic: bool = False) -> Tensor:
        """The most likely actions, or sampled ones."""
        return self.mode() if deterministic else self.sample()

    def actions_from_params(self, *params: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for the outputs of a network."""
        return self.proba_distribution(*params).get_actions(deterministic)

    def log_prob_from_params(self, *params: Tensor) -> tuple[Tensor, Tensor]:
        """Sampled actions for the outputs of a network, and their log-probabilities."""
        actions = self.actions_from_params(*params)
        return actions, self.log_prob(actions)


class DiagGaussianDistribution(Distribution):
    """Independent normal components.

    Args:
        action_dim: number of components.
    """

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim

    def proba_distribution_net(
        self, latent_dim: int, log_std_init: float = 0.0, *args: Any, **kwargs: Any
    ) -> tuple[nn.Linear, nn.Parameter]:
        """A layer for the means, and a parameter for the logarithms of the standard deviations."""
        return nn.Linear(latent_dim, self.action_dim), nn.Parameter(torch.full((self.action_dim,), log_std_init))

    def proba_distribution(self, mean_actions: Tensor, log_std: Tensor) -> Self:
        """Takes means, ``[B, K]``, and log standard deviations, ``[B, K]`` or ``[K]``."""
        return self.make_distribution(mean_actions, log_std)

    def make_distribution(self, mean_actions: Tensor, log_std: Tensor) -> Self:
        """Takes means, ``[B, K]``, and log standard deviations, ``[B, K]`` or ``[K]``."""
        self.distribution = Normal(mean_actions, log_std.exp().expand_as(mean_actions))
        return self


class SquashedDiagGaussianDistribution(DiagGaussianDistribution):
    """Independent normal components, squashed by tanh.

    Args:
        action_dim: number of components.
        epsilon: how far from ±1 an action is kept where its sample before tanh is not known.
    """

    def __init__(self, action_dim: int, epsilon: float = 1e-6) -> None:
        super().__init__(action_dim)
        self.epsilon = epsilon
        self.gaussian_actions: Tensor | None = None

    def log_prob(self, actions: Tensor, gaussian_actions: Tensor | None = None) -> Tensor:
        """Log-densities, ``[B]``, of actions in (-1, 1).

        Args:
            actions: ``[B, K]``.
            gaussian_actions: the samples before tanh, where they are known: without them much precision is lost.
        """
        if gaussian_actions is None:
            gaussian_actions = actions.clamp(self.epsilon - 1, 1 - self.epsilon).atanh()
        return super().log_prob(gaussian_actions) - sum_independent_dims(log_tanh_derivative(gaussian_actions))

    def entropy(self) -> Tensor | None:
        """None: there is no formula."""
        return None

    def sample(self) -> Tensor:
        """Actions in (-1, 1), with a gradient."""
        self.gaussian_actions = super().sample()
        return self.gaussian_actions.tanh()

    def mode(self) -> Tensor:
        """tanh of the means."""
        self.gaussian_actions = super().mode()
        return self.gaussian_actions.tanh()

    def log_prob_from_params(self, *params: Tensor) -> tuple[Tensor, Tensor]:
        """Sampled actions, and their log-densities from the samples before tanh."""
        actions = self.actions_from_params(*params)
        return actions, self.log_prob(actions, self.gaussian_actions)

    def get_ten_samples(self) -> list[Tensor]:
        """Ten times actions."""
        return [self.sample() for _ in range(10)]


class CategoricalDistribution(Distribution):
    """One of ``action_dim`` actions."""

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim

    def proba_distribution_net(self, latent_dim: int, *args: Any, **kwargs: Any) -> nn.Linear:
        """A layer for the logits."""
        return nn.Linear(latent_dim, self.action_dim)

    def proba_distribution(self, action_logits: Tensor) -> Self:
        """Takes logits."""
        self.distribution = Categorical(logits=action_logits)
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probabilities, ``[B]``."""
        found: Tensor = self.distribution.log_prob(actions)
        return found

    def entropy(self) -> Tensor:
        """Entropies, ``[B]``."""
        found: Tensor = self.distribution.entropy()
        return found


class MultiCategoricalDistribution(Distribution):
    """Independent categorical components, ``action_dims`` values each."""

    def __init__(self, action_dims: Sequence[int]) -> None:
        self.action_dims = list(action_dims)

    def proba_distribution_net(self, latent_dim: int, *args: Any, **kwargs: Any) -> nn.Linear:
        """A layer for all logits."""
        return nn.Linear(latent_dim, sum(self.action_dims))

    def proba_distribution(self, action_logits: Tensor) -> Self:
        """Takes the logits of all components, ``[B, sum of action_dims]``."""
        self.distribution = [Categorical(logits=part) for part in torch.split(action_logits, self.action_dims, dim=1)]
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probabilities, ``[B]``, of actions ``[B, K]``."""
        parts = zip(self.distribution, actions.unbind(dim=1), strict=True)
        return torch.stack([part.log_prob(action) for part, action in parts], dim=1).sum(dim=1)

    def entropy(self) -> Tensor:
        """Entropies, ``[B]``."""
        return torch.stack([part.entropy() for part in self.distribution], dim=1).sum(dim=1)

    def sample(self) -> Tensor:
        """Actions ``[B, K]``."""
        return torch.stack([part.sample() for part in self.distribution], dim=1)

    def mode(self) -> Tensor:
        """The most likely actions, ``[B, K]``."""
        return torch.stack([part.mode for part in self.distribution], dim=1)


class BernoulliDistribution(Distribution):
    """Independent components that are 0 or 1."""

    def __init__(self, action_dims: int) -> None:
        self.action_dims = action_dims

    def proba_distribution_net(self, latent_dim: int, *args: Any, **kwargs: Any) -> nn.Linear:
        """A layer for the logits."""
        return nn.Linear(latent_dim, self.action_dims)

    def proba_distribution(self, action_logits: Tensor) -> Self:
        """Takes logits."""
        self.distribution = Bernoulli(logits=action_logits)
        return self

    def mode(self) -> Tensor:
        """The most likely actions."""
        return torch.round(self.distribution.probs)


class TanhBijector:
    """tanh, its inverse, and the logarithm of its derivative.

    Args:
        epsilon: how far from ±1 :meth:`inverse` keeps its argument.
    """

    def __init__(self, epsilon: float = 1e-6) -> None:
        self.epsilon = epsilon

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """tanh(x)."""
        return x.tanh()

    @staticmethod
    def atanh(x: Tensor) -> Tensor:
        """The inverse of tanh in (-1, 1)."""
        return x.atanh()

    @staticmethod
    def inverse(y: Tensor) -> Tensor:
        """The inverse of tanh, finite at ±1, too."""
        limit = 1 - torch.finfo(y.dtype).eps
        return y.clamp(-limit, limit).atanh()

    def log_prob_correction(self, x: Tensor) -> Tensor:
        """log(1 - tanh²(x)), finite for every x."""
        return log_tanh_derivative(x)


def make_proba_distribution(
    action_space: Any, use_sde: bool = False, dist_kwargs: dict[str, Any] | None = None
) -> Distribution:
    """The distribution for a space of gymnasium.

    Raises:
        ConfigurationError: a space that is not supported, or ``use_sde``.
    """
    if use_sde:
        raise ConfigurationError("use_sde=True: not supported; use correlated noise, bbrl_exp.policies.exploration")
    options = dist_kwargs or {}
    if isinstance(action_space, spaces.Discrete):
        return CategoricalDistribution(int(action_space.n), **options)
    if isinstance(action_space, spaces.MultiDiscrete):
        return MultiCategoricalDistribution([int(n) for n in action_space.nvec], **options)
    if isinstance(action_space, spaces.MultiBinary):
        return BernoulliDistribution(get_action_dim(action_space), **options)
    return DiagGaussianDistribution(get_action_dim(action_space), **options)


def kl_divergence(dist_true: Distribution, dist_pred: Distribution) -> Tensor:
    """KL(true ‖ pred): per component, ``[B, K]``, or ``[B]`` of categorical ones.

    Raises:
        ConfigurationError: distributions of two kinds.
    """
    if type(dist_true) is not type(dist_pred):
        kinds = type(dist_true).__name__, type(dist_pred).__name__
        raise ConfigurationError(f"kl_divergence: both must be of one kind, found {kinds[0]} and {kinds[1]}")
    if isinstance(dist_true, MultiCategoricalDistribution):
        pairs = zip(dist_true.distribution, dist_pred.distribution, strict=True)
        parts = itertools.starmap(torch.distributions.kl_divergence, pairs)
        return torch.stack(list(parts), dim=1).sum(dim=1)
    return torch.distributions.kl_divergence(dist_true.distribution, dist_pred.distribution)
