"""Distributions over actions: log-probabilities and entropies from a network's outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

_LOG_2PI = math.log(2 * math.pi)


class Distribution(Protocol):
    """N independent distributions over one leaf of the action."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probabilities or log-densities, ``[N]``, of actions ``[N, *shape]``."""

    def entropy(self) -> Tensor:
        """Entropies in nats, ``[N]``."""

    def mode(self) -> Tensor:
        """The most likely actions, ``[N, *shape]``."""


class Categorical:
    """Independent categorical components.

    Args:
        logits: ``[N, sum(counts)]``.
        counts: number of values of each component.
        start: smallest value of each component, int64 ``[K]``.
        shape: shape of one action, with K components.
        dtype: dtype of actions.
    """

    def __init__(
        self, logits: Tensor, counts: Sequence[int], start: Tensor, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self._log_probs = [part.log_softmax(dim=1) for part in torch.split(logits, list(counts), dim=1)]
        self._start = start
        self._shape = shape
        self._dtype = dtype

    def log_prob(self, actions: Tensor) -> Tensor:
        indexes = actions.reshape(len(self._log_probs[0]), len(self._log_probs)) - self._start
        parts = [log_probs.gather(1, indexes[:, k : k + 1]).squeeze(1) for k, log_probs in enumerate(self._log_probs)]
        return _total(parts)

    def entropy(self) -> Tensor:
        return _total([-(log_probs.exp() * log_probs).sum(dim=1) for log_probs in self._log_probs])

    def mode(self) -> Tensor:
        indexes = torch.stack([log_probs.argmax(dim=1) for log_probs in self._log_probs], dim=1)
        return (indexes + self._start).reshape(-1, *self._shape).to(self._dtype)


class Normal:
    """Independent normal components.

    Args:
        mean: ``[N, K]``.
        log_std: logarithms of the standard deviations, ``[K]`` or ``[N, K]``.
        shape: shape of one action, with K components.
    """

    def __init__(self, mean: Tensor, log_std: Tensor, shape: tuple[int, ...]) -> None:
        self._mean = mean
        self._log_std = log_std
        self._shape = shape

    def log_prob(self, actions: Tensor) -> Tensor:
        standardised = (actions.reshape(self._mean.shape) - self._mean) * (-self._log_std).exp()
        return -(0.5 * standardised.square() + self._log_std).sum(dim=1) - 0.5 * _LOG_2PI * self._mean.shape[1]

    def entropy(self) -> Tensor:
        constant = 0.5 * (1 + _LOG_2PI) * self._mean.shape[1]
        return self._log_std.expand_as(self._mean).sum(dim=1) + constant

    def mode(self) -> Tensor:
        return self._mean.reshape(-1, *self._shape)


class ActionDistribution:
    """N joint distributions over all leaves of an action, which are independent of each other.

    Args:
        parts: one distribution per leaf.
    """

    def __init__(self, parts: Sequence[Distribution]) -> None:
        self._parts = parts

    def log_prob(self, actions: Sequence[Tensor]) -> Tensor:
        """Log-probabilities ``[N]`` of actions, one tensor ``[N, *shape]`` per leaf."""
        return _total([part.log_prob(leaf) for part, leaf in zip(self._parts, actions, strict=True)])

    def entropy(self) -> Tensor:
        """Entropies in nats, ``[N]``."""
        return _total([part.entropy() for part in self._parts])

    def mode(self) -> tuple[Tensor, ...]:
        """The most likely actions, one tensor ``[N, *shape]`` per leaf."""
        return tuple(part.mode() for part in self._parts)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else cast(Tensor, sum(parts))
