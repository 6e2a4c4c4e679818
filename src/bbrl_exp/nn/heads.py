"""From a network's outputs to actions: one head for each kind of action, sampled with noise that is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.nn.distributions import Categorical, Normal

_SMALLEST_FLOAT32 = np.finfo(np.float32).tiny


class CategoricalHead(nn.Module):
    """Independent categorical components, drawn as the argmax of logits plus Gumbel noise (Gumbel, 1954).

    Args:
        counts: number of values of each component, in the order of the flattened action.
        start: smallest value of each component.
        shape: shape of one environment's action, ``()`` for a single component.
        dtype: dtype of the action.
    """

    start: Tensor

    def __init__(self, counts: Sequence[int], start: Sequence[int], shape: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.counts = list(counts)
        self.shape = shape
        self.dtype = dtype
        self._starts = np.asarray(start, np.int64).ravel()
        self.register_buffer("start", torch.tensor(start, dtype=torch.int64), persistent=False)

    @property
    def n_parameters(self) -> int:
        """Number of logits."""
        return sum(self.counts)

    @staticmethod
    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        """Standard Gumbel noise, float32."""
        exponential = generator.standard_exponential(shape, dtype=np.float32)
        return np.asarray(-np.log(np.maximum(exponential, _SMALLEST_FLOAT32)))

    def forward(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Actions ``[B, *shape]`` from logits and noise, both ``[B, n_parameters]``."""
        perturbed = logits + noise
        if len(self.counts) == 1:
            indexes = perturbed.argmax(dim=1)
            if not self._starts.any() and self.shape == () and self.dtype is torch.int64:
                return indexes
        else:
            indexes = torch.stack([part.argmax(dim=1) for part in torch.split(perturbed, self.counts, dim=1)], dim=1)
        actions = indexes.reshape(len(logits), -1) + self.start
        return actions.reshape(-1, *self.shape).to(self.dtype)

    def distribution(self, logits: Tensor) -> Categorical:
        """The distributions of logits ``[N, n_parameters]``."""
        return Categorical(logits, self.counts, self.start, self.shape, self.dtype)

    def on_arrays(self, logits: NDArray[Any], noise: NDArray[Any] | None) -> NDArray[Any]:
        """The same as ``forward`` on arrays, in any integer dtype; without noise, the most likely actions."""
        perturbed = logits if noise is None else logits + noise
        if len(self.counts) == 1:
            return np.asarray(perturbed.argmax(axis=1).reshape(-1, *self.shape) + self._starts[0])
        parts = np.split(perturbed, np.cumsum(self.counts)[:-1], axis=1)
        indexes = np.stack([part.argmax(axis=1) for part in parts], axis=1)
        return (indexes + self._starts).reshape(-1, *self.shape)


class GaussianHead(nn.Module):
    """Independent normal components around the network's outputs, each with its own standard deviation.

    Args:
        shape: shape of one environment's action.
        dtype: dtype of the action.
        initial_log_std: initial value of ``log_std``.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, initial_log_std: float) -> None:
        super().__init__()
        self.shape = shape
        self.dtype = dtype
        self.n_parameters = int(np.prod(shape, dtype=np.int64))
        self.log_std = nn.Parameter(torch.full((self.n_parameters,), float(initial_log_std)))

    @staticmethod
    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        """Standard normal noise, float32."""
        return generator.standard_normal(shape, dtype=np.float32)

    def forward(self, mean: Tensor, noise: Tensor) -> Tensor:
        """Actions ``[B, *shape]`` from means and noise, both ``[B, n_parameters]``."""
        actions = torch.addcmul(mean, self.log_std.exp(), noise)
        return actions.reshape(-1, *self.shape).to(self.dtype)

    def distribution(self, mean: Tensor) -> Normal:
        """The distributions around means ``[N, n_parameters]``."""
        return Normal(mean, self.log_std, self.shape)

    def on_arrays(self, mean: NDArray[Any], noise: NDArray[Any] | None) -> NDArray[Any]:
        """The same as ``forward`` on arrays, float32; without noise, the means."""
        actions: NDArray[Any] = mean if noise is None else mean + np.exp(self.log_std.detach().numpy()) * noise
        return actions.reshape(-1, *self.shape)
