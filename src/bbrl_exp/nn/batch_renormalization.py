"""Batch renormalisation: batch normalisation that says nearly the same in training and in use."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchRenormalization(nn.Module):
    """Normalises each unit of each of M networks over a batch (Ioffe, 2017, arXiv:1702.03275, algorithm 1).

        y = w ((x - μ_B) / σ_B · r + d) + b,
        r = clip(σ_B / σ, 1/r_max, r_max),    d = clip((μ_B - μ) / σ, -d_max, d_max)

    with the batch's μ_B, σ_B and moving averages μ, σ; no gradient through r and d. During the first ``n_warm_up``
    batches r = 1 and d = 0, which is batch normalisation. In evaluation mode y = w (x - μ) / σ + b.

    Deviations from the paper: σ² is averaged, not σ; after the warm-up r_max and d_max hold at once, and do not grow
    little by little. 3 and 5 are where they end there; the other numbers are those of CrossQ (Bhatt et al., 2024).

    Args:
        n_members: number M of networks.
        n_units: number H of units.
        rate: at which the averages follow a batch.
        n_warm_up: batches before r and d are used.
        largest_ratio: r_max.
        largest_shift: d_max.
    """

    running_mean: Tensor
    running_variance: Tensor
    n_batches: Tensor

    def __init__(
        self,
        n_members: int,
        n_units: int,
        rate: float = 0.01,
        n_warm_up: int = 100_000,
        largest_ratio: float = 3.0,
        largest_shift: float = 5.0,
    ) -> None:
        super().__init__()
        self._rate = rate
        self._n_warm_up = n_warm_up
        self._largest_ratio = largest_ratio
        self._largest_shift = largest_shift
        self.weight = nn.Parameter(torch.ones(n_members, 1, n_units))
        self.bias = nn.Parameter(torch.zeros(n_members, 1, n_units))
        self.register_buffer("running_mean", torch.zeros(n_members, 1, n_units))
        self.register_buffer("running_variance", torch.ones(n_members, 1, n_units))
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[M, N, H]`` for ``[M, N, H]``."""
        if not self.training:
            scale = self.weight * (self.running_variance + 1e-3).rsqrt()
            return (inputs - self.running_mean) * scale + self.bias
        variance, mean = torch.var_mean(inputs, dim=1, correction=0, keepdim=True)
        deviation = (variance + 1e-3).sqrt()
        normalized = (inputs - mean) / deviation
        with torch.no_grad():
            running_deviation = (self.running_variance + 1e-3).sqrt()
            is_warm = self.n_batches >= self._n_warm_up
            ratio = (deviation / running_deviation).clamp(1 / self._largest_ratio, self._largest_ratio)
            shift = ((mean - self.running_mean) / running_deviation).clamp(-self._largest_shift, self._largest_shift)
            ratio, shift = torch.where(is_warm, ratio, 1.0), torch.where(is_warm, shift, 0.0)
            self.running_mean.lerp_(mean, self._rate)
            self.running_variance.lerp_(variance, self._rate)
            self.n_batches += 1
        return (normalized * ratio + shift) * self.weight + self.bias
