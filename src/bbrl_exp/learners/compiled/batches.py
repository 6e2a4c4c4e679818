"""Batches of transitions as lists of tensors, and back: what a graph takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bbrl_exp.compilation.compiler import NotCompilableError
from bbrl_exp.data.batch import Batch
from bbrl_exp.nn.batch_renormalization import BatchRenormalization


def tensors_of(batch: Batch) -> list[Tensor]:
    """The tensors of a batch."""
    return [
        *batch.observations,
        *batch.actions,
        *batch.next_observations,
        batch.rewards,
        batch.terminated,
        batch.discounts,
        batch.weights,
    ]


def part_of(like: Batch, tensors: Sequence[Tensor], index: int, size: int) -> Batch:
    """Part number ``index`` of ``size`` transitions, of tensors as :func:`tensors_of` gave them.

    Args:
        like: the batch whose tensors they are, or stand for.
        tensors: those, and perhaps others after them.
        index: counted from 0.
        size: transitions in a part.
    """
    parts = [each[index * size : (index + 1) * size] for each in tensors]
    n_observed, n_chosen = len(like.observations), len(like.actions)
    first, second = n_observed + n_chosen, 2 * n_observed + n_chosen
    rewards, terminated, discounts, weights = parts[second : second + 4]
    return replace(
        like,
        observations=tuple(parts[:n_observed]),
        actions=tuple(parts[n_observed:first]),
        next_observations=tuple(parts[first:second]),
        rewards=rewards,
        terminated=terminated,
        discounts=discounts,
        weights=weights,
    )


def check_can_be_filled_up(learner: nn.Module) -> None:
    """Refuses networks in which the samples of weight 0 that fill a minibatch up would change the others' features.

    Raises:
        NotCompilableError: there is one.
    """
    for module in learner.modules():
        if isinstance(module, _BatchNorm | BatchRenormalization) or getattr(module, "track_running_stats", False):
            raise NotCompilableError(
                f"{type(module).__name__} would count the samples that fill a minibatch up; use layer normalisation"
            )


def filled_up(parts: Sequence[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Indexes int64 and weights float32, ``[len(parts), size]``, of parts of at most ``size`` samples.

    The weights of a part sum to 1; they are 0 where the part has no more samples.
    """
    indexes = np.zeros((len(parts), size), np.int64)
    weights = np.zeros((len(parts), size), np.float32)
    for row, part in enumerate(parts):
        indexes[row, : len(part)] = part.cpu().numpy()
        weights[row, : len(part)] = 1.0 / len(part)
    device = parts[0].device
    return torch.from_numpy(indexes).to(device), torch.from_numpy(weights).to(device)


def refilled(given: Sequence[Tensor], n_kept: int = 0) -> list[list[Tensor]]:
    """Two versions of what an update is made from, which differ only in samples of weight 0: they must teach the same.

    Half of the samples of each part have weight 0; of a part of one sample it is that one, which proves nothing.

    Args:
        given: the last are the weights, ``[…, size]``; those before it have the samples in the same dimension.
        n_kept: how many of the first ones are left as they are.
    """
    *of_samples, weights = given[n_kept:]
    dimension, size = weights.dim() - 1, weights.shape[-1]
    places = torch.arange(size, device=weights.device)
    counts = places < size // 2
    others = [each.index_select(dimension, places * counts) for each in of_samples]
    return [[*given[:n_kept], *each, weights * counts] for each in (of_samples, others)]
