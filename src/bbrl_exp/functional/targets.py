"""Target networks: copies of parameters that follow slowly, or from time to time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def polyak_update(targets: Sequence[Tensor], sources: Sequence[Tensor], rate: float | Tensor) -> None:
    """target ← target + τ (source - target), in place, for all tensors at once (Lillicrap et al. 2016, algorithm 1).

    Args:
        targets: the tensors that follow, of floats.
        sources: what they follow, of the same shapes and in the same order.
        rate: τ, between 0 and 1; a tensor without dimensions in a graph that is recorded for any rate.
    """
    if isinstance(rate, Tensor):
        for target, source in zip(targets, sources, strict=True):
            target.lerp_(source, rate)
    else:
        torch._foreach_lerp_(list(targets), list(sources), rate)


@torch.no_grad()
def copy_tensors(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """target ← source, in place, for all tensors at once (Mnih et al. 2015, algorithm 1).

    Args:
        targets: the tensors that are overwritten.
        sources: what they become, of the same shapes and in the same order.
    """
    torch._foreach_copy_(list(targets), list(sources))


@torch.no_grad()
def copy_buffers(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> None:
    """target ← source, in place, for all buffers: the averages of batch normalisation belong to the parameters.

    Args:
        pairs: a module whose buffers are overwritten, and one that is built alike.
    """
    for target, source in pairs:
        for overwritten, buffer in zip(target.buffers(), source.buffers(), strict=True):
            overwritten.copy_(buffer)
