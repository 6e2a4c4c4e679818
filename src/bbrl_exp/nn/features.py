"""From the leaves of an observation to one vector of features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from bbrl_exp.errors import ConfigurationError


class OneHot(nn.Module):
    """Discrete components as concatenated one-hot vectors.

    Args:
        counts: number of values of each component, ``[K]``.
        start: smallest value of each component, ``[K]``.
    """

    start: Tensor

    def __init__(self, counts: Sequence[int], start: Sequence[int]) -> None:
        super().__init__()
        self.counts = tuple(counts)
        self.register_buffer("start", torch.tensor(start, dtype=torch.int64), persistent=False)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return sum(self.counts)

    @property
    def shape(self) -> tuple[int]:
        """Shape of one row of features."""
        return (self.n_features,)

    def forward(self, values: Tensor) -> Tensor:
        """Features float32 ``[B, n_features]`` of integers ``[B, …]`` with K components."""
        indexes = values.reshape(values.shape[0], -1).to(torch.int64) - self.start
        parts = [one_hot(indexes[:, k], count) for k, count in enumerate(self.counts)]
        return torch.cat(parts, dim=1).float()


class Flat(nn.Module):
    """Numbers of any shape and dtype as one float32 vector, multiplied by ``scale``."""

    def __init__(self, size: int, scale: float = 1.0) -> None:
        super().__init__()
        if size < 1:
            raise ConfigurationError(f"an observation of {size} components has no features")
        self.n_features = size
        self.scale = scale

    def forward(self, values: Tensor) -> Tensor:
        """Features float32 ``[B, n_features]`` of numbers ``[B, …]``."""
        flat = values.reshape(values.shape[0], -1).float()
        return flat if self.scale == 1.0 else flat * self.scale


class Scaled(nn.Module):
    """Numbers of any dtype as float32, divided by ``divisor``, in their shape; a single number is a vector of one."""

    def __init__(self, shape: tuple[int, ...], divisor: int = 1) -> None:
        super().__init__()
        self.shape = shape or (1,)
        self.divisor = divisor

    def forward(self, values: Tensor) -> Tensor:
        """Float32 ``[N, *shape]`` of numbers ``[N, …]``."""
        numbers = values.reshape(values.shape[0], *self.shape).float()
        return numbers if self.divisor == 1 else numbers / self.divisor
