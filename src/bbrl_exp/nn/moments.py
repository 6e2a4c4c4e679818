"""Running mean and variance, updated batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_SMALLEST_VARIANCE = 1e-8


class RunningMoments(nn.Module):
    """Mean and variance of all rows seen so far, by the parallel update of Chan, Golub & LeVeque (1979).

    With the count n, the mean μ and the sum of squared deviations M of what was seen, and n_b, μ_b, M_b of a batch:

        δ = μ_b - μ    μ ← μ + δ n_b / (n + n_b)    M ← M + M_b + δ² n n_b / (n + n_b)    n ← n + n_b

    so that they depend on the rows alone, not on how these come in batches. Float64; the three numbers are buffers.

    Args:
        shape: of one row.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(shape, dtype=torch.float64))

    @property
    def variance(self) -> Tensor:
        """Variance of the rows, ``[*shape]``; 1 before there are any."""
        return torch.where(self.count > 0, self.squares / self.count.clamp(min=1.0), 1.0)

    def update(self, rows: Tensor) -> None:
        """Takes in N rows, ``[N, *shape]``, N at least 1."""
        n_new = len(rows)
        values = rows.detach().double()
        mean = values.mean(dim=0)
        difference = mean - self.mean
        share = n_new / (self.count + n_new)
        self.squares += (values - mean).square().sum(dim=0) + difference.square() * self.count * share
        self.mean += difference * share
        self.count += n_new

    def standardized(self, rows: Tensor, limit: float) -> Tensor:
        """``(rows - mean) / standard deviation`` within ± ``limit``, float32 ``[N, *shape]``."""
        return self.scaled(rows - self.mean, limit)

    def scaled(self, rows: Tensor, limit: float) -> Tensor:
        """``rows / standard deviation`` within ± ``limit``, float32 ``[N, *shape]``."""
        return (rows * (self.variance + _SMALLEST_VARIANCE).rsqrt()).clamp(-limit, limit).float()

    def update_from_array(self, rows: NDArray[Any]) -> None:
        """The same as :meth:`update`, for buffers on the CPU."""
        count, mean, squares = self.count.numpy(), self.mean.numpy(), self.squares.numpy()
        n_new = len(rows)
        n_seen = float(count)
        share = n_new / (n_seen + n_new)
        deviations = rows - mean
        difference = deviations.sum(axis=0) / n_new
        mean += difference * share
        deviations -= difference
        deviations *= deviations
        squares += deviations.sum(axis=0)
        difference *= difference
        difference *= n_seen * share
        squares += difference
        count += n_new

    def standardized_array(self, rows: NDArray[Any], limit: float) -> NDArray[Any]:
        """The same as :meth:`standardized`, for buffers on the CPU."""
        return self.scaled_array(rows - self.mean.numpy(), limit)

    def scaled_array(self, rows: NDArray[Any], limit: float) -> NDArray[Any]:
        """The same as :meth:`scaled`, for buffers on the CPU."""
        count = float(self.count.numpy())
        variance = self.squares.numpy() / count if count > 0 else 1.0
        values: NDArray[Any] = rows / np.sqrt(variance + _SMALLEST_VARIANCE)
        np.maximum(values, -limit, out=values)
        np.minimum(values, limit, out=values)
        return values.astype(np.float32)
