"""Random numbers by counter: any number of any episode of any environment, without a generator for each.

The numbers are those of Philox4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"). The key is
that of the root seed and the role, the counter is (block, environment, episode, 0). So a stream depends on (seed, role,
environment, episode) alone. :func:`philox` is written with int64 that wraps around, so that numba, numpy arrays and
tensors compute the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.seeding import stream_seed

UNIT = 2.0**-53
_LOW = 0xFFFFFFFF


def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Four random numbers of 32 bits for a counter of four and a key of two such numbers, all int64."""
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = ((p1 >> 32) & _LOW) ^ c1 ^ k0, p1 & _LOW, ((p0 >> 32) & _LOW) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return c0, c1, c2, c3


def bits53(high: Any, low: Any) -> Any:
    """An integer of 53 bits from two of 32 bits; times :data:`UNIT` it is uniform in [0, 1)."""
    return (high >> 5) * 67108864 + (low >> 6)


def stream_keys(seeds: tuple[int, ...], role: str, batch_size: int, first: int = 0) -> NDArray[np.int64]:
    """What identifies the streams of a batch: ``[3, B]``, two halves of a key and the index of the environment.

    Args:
        seeds: root seeds; each has an equal part of the batch, one after the other.
        role: what the environments are for.
        batch_size: number B of environments.
        first: index of the first environment of each seed.
    """
    keys = [stream_seed(seed, role, "array episodes") for seed in seeds]
    each = batch_size // len(seeds)
    parts = [np.array([key & _LOW, key >> 32], np.int64).repeat(each).reshape(2, each) for key in keys]
    environments = np.tile(np.arange(first, first + each), len(seeds))
    return np.concatenate([np.concatenate(parts, axis=1), environments[None]])


def uniforms(keys: Tensor, episodes: Tensor, count: int) -> Tensor:
    """The first ``count`` numbers of episodes, float64 ``[…, B, count]`` in [0, 1).

    Args:
        keys: as :func:`stream_keys` gives them, int64 ``[3, B]``.
        episodes: int64 ``[…, B]``.
        count: how many for each episode.
    """
    columns: list[Tensor] = []
    nothing = torch.zeros_like(episodes)
    for block in range((count + 1) // 2):
        x0, x1, x2, x3 = philox(nothing + block, nothing + keys[2], episodes, nothing, keys[0], keys[1])
        columns += [bits53(x0, x1).double() * UNIT, bits53(x2, x3).double() * UNIT]
    if not count:
        return torch.zeros((*episodes.shape, 0), dtype=torch.float64, device=episodes.device)
    return torch.stack(columns[:count], dim=-1)
