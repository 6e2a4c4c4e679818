"""Batches of transitions of one or several steps, gathered from the rows of a replay buffer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.data.ring import Ring
from bbrl_exp.data.transitions import TERMINATED


@dataclass(eq=False)  # not frozen, which would cost a twentieth of a small draw
class Batch:
    """N transitions of k steps each, k = ``n_steps`` unless the episode or the recording ends before.

    The target of a value is ``rewards + discounts · ~terminated · value(next_observations)``. Tensors of variables are
    views of one gathered block, not contiguous, with the dtypes of the workspace.

    Attributes:
        observations: one tensor ``[N, …]`` per variable.
        actions: one tensor ``[N, …]`` per variable.
        rewards: ``[N]``: Σ γ^i r over the k steps, in the dtype of the rewards, float32 where these are integers.
        terminated: bool ``[N]``: the next observation is worth 0.
        next_observations: those after the k steps, one tensor ``[N, …]`` per variable.
        discounts: ``[N]``: γ^k, in the dtype of ``rewards``.
        indexes: int64 array ``[N]``: the numbers of the transitions, counted from the first that was ever put.
        weights: ``[N]``: what each sample counts in the loss, in the dtype of ``rewards``; ones for uniform draws.
    """

    observations: tuple[Tensor, ...]
    actions: tuple[Tensor, ...]
    rewards: Tensor
    terminated: Tensor
    next_observations: tuple[Tensor, ...]
    discounts: Tensor
    indexes: NDArray[np.int64]
    weights: Tensor


class BatchReader:
    """Gathers transitions of ``n_steps`` steps, or fewer where the episode or the recording ends before.

    Attributes:
        wanted: what it reads: the row of a pair, 0 or 1, and the name of the variable, for each.
    """

    def __init__(
        self, observations: Sequence[str], actions: Sequence[str], reward: str, discount: float, n_steps: int
    ) -> None:
        self.wanted = (
            *((0, name) for name in (*observations, *actions)),
            *((1, name) for name in (*observations, TERMINATED, reward)),
        )
        self._reward = reward
        self._discount = discount
        self._n_steps = n_steps
        self._first_action = len(observations)
        self._first_next = len(observations) + len(actions)
        # γ and 1 by size of batch, dtype and device: one element of memory each, so that nobody can write into them.
        self._constants: dict[tuple[int, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}
        self._exact_powers = torch.from_numpy(discount ** np.arange(n_steps + 1))
        self._powers = self._exact_powers  # in the dtype and on the device of the rewards
        self._steps = np.arange(n_steps + 1)[:, None]

    def read(self, ring: Ring, indexes: NDArray[np.int64]) -> Batch:
        """The stored transitions of these numbers, int64 ``[N]``, with weights of one."""
        places = ring.places_of(indexes)
        ends, span = (None, None) if self._n_steps == 1 else self._span(ring, places)
        views = ring.read(places, ends)
        terminated, rewards = views[-2:]
        if not rewards.dtype.is_floating_point:
            rewards = rewards.float()
        key = len(indexes), rewards.dtype, ring.memory.device
        discounts, weights = self._constants.get(key) or self._new_constants(key)
        if span is not None:
            rewards, discounts = span
        first_action, first_next = self._first_action, self._first_next
        return Batch(
            views[:first_action],
            views[first_action:first_next],
            rewards,
            terminated,
            views[first_next:-2],
            discounts,
            indexes,
            weights,
        )

    def _new_constants(self, key: tuple[int, torch.dtype, torch.device]) -> tuple[Tensor, Tensor]:
        size, dtype, device = key
        one = torch.ones((), dtype=dtype, device=device)
        self._constants = {key: (constants := ((one * self._discount).expand(size), one.expand(size)))}
        return constants

    def _span(self, ring: Ring, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[Tensor, Tensor]]:
        """Where the transitions that start at ``places`` end; Σ γ^i r and γ^k."""
        assert ring.is_start is not None
        following = places + self._steps
        is_taken = ring.is_start.take(following[:-1])
        for before, here in itertools.pairwise(is_taken):  # numpy's accumulate takes three times as long
            np.logical_and(before, here, out=here)
        n_taken = np.add.reduce(is_taken, 0, dtype=np.int64)
        ends = places + n_taken
        # Rewards beyond the end may be NaN or infinite, and 0 times those is not 0.
        rewards = ring.values_at(self._reward, following[1:])
        rewards = rewards if rewards.is_floating_point() else rewards.float()
        device, dtype = rewards.device, rewards.dtype
        rewards = torch.where(torch.from_numpy(is_taken).to(device), rewards, 0.0)
        if self._powers.dtype != dtype or self._powers.device != device:
            self._powers = self._exact_powers.to(device, dtype)
        discounts = self._powers.index_select(0, torch.from_numpy(n_taken).to(device))
        return ends, (self._powers[:-1] @ rewards, discounts)
