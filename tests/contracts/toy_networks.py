"""A network with all that makes one hard to learn: averages over batches, random units, parameters that stay."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn


class HardToLearn(nn.Module):
    """Linear layers with batch normalisation, dropout, a frozen layer and a parameter that nothing depends on."""

    def __init__(self, input_shape: tuple[int, ...], n_features: int = 6, stated: int | None = None) -> None:
        super().__init__()
        self.n_features = n_features if stated is None else stated
        self.frozen = nn.Linear(prod(input_shape), 5).requires_grad_(False)
        self.unused = nn.Parameter(torch.zeros(3))
        self.learned = nn.Sequential(nn.Linear(5, n_features), nn.BatchNorm1d(n_features), nn.ReLU(), nn.Dropout(0.1))

    def forward(self, observation: Tensor) -> Tensor:
        return self.learned(self.frozen(observation.flatten(1)))


class OfParts(nn.Module):
    """For an observation of several parts only."""

    def __init__(self, input_shape: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        (self.n_features,) = input_shape["vector"]
