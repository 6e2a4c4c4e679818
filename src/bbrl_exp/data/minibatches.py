"""Minibatches that visit every sample exactly once an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.arguments import AT_LEAST_1


def minibatches(
    n_samples: int, size: int, generator: np.random.Generator, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """One epoch: a random partition of the indexes 0 … ``n_samples - 1``, int64 ``[≤ size]`` each, on ``device``.

    There are ⌈n_samples / size⌉ minibatches, none larger than ``size``, whose sizes differ by one at most: a small last
    one would give its samples a larger step than the others'.

    With the number B of environments for ``n_samples`` the indexes are columns of ``[T, B, …]``: minibatches of whole
    sequences, for recurrent policies (:meth:`bbrl_exp.data.transitions.Transitions.of_environments`).

    Raises:
        ConfigurationError: ``n_samples`` or ``size`` is not a whole number of at least 1.
    """
    AT_LEAST_1.check(n_samples=n_samples, size=size)
    return parts(n_samples, math.ceil(n_samples / size), generator, device)


def parts(
    n_samples: int, n_parts: int, generator: np.random.Generator, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """One epoch as :func:`minibatches`, in ``n_parts`` of them, or one per sample where there are fewer samples."""
    AT_LEAST_1.check(n_samples=n_samples, n_parts=n_parts)
    order = torch.from_numpy(generator.permutation(n_samples)).to(device)
    return iter(order.tensor_split(min(n_parts, n_samples)))
