"""From the outputs of a network to actions: one head per leaf of the action, and the noise that it draws with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.agents.streams import BlockedDraws
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.distributions import ActionDistribution
from bbrl_exp.nn.heads import CategoricalHead, GaussianHead
from bbrl_exp.policies.rows import Facts
from bbrl_exp.seeding import numpy_generator


class ActionHeads(nn.Module):
    """The heads of all leaves of an action, which share the outputs of one network.

    Args:
        leaves: the leaves.
        initial_log_std: initial value of every component of ``log_std`` of boxes.

    Attributes:
        names: variables of the leaves.
        n_parameters: number P of outputs that the heads take.
        row_facts: what is written, variable → (shape of one environment's action, dtype).

    Raises:
        ConfigurationError: a leaf is a box of integers.
    """

    def __init__(self, leaves: Sequence[LeafSpec], initial_log_std: float) -> None:
        super().__init__()
        self.names = tuple(leaf.name for leaf in leaves)
        self.row_facts: Facts = {leaf.name: (leaf.shape, leaf.dtype) for leaf in leaves}
        self._heads = [_head(leaf, initial_log_std) for leaf in leaves]
        for index, head in enumerate(self._heads):
            self.add_module(str(index), head)
        self._sizes = [head.n_parameters for head in self._heads]
        self.n_parameters = sum(self._sizes)
        self._dtype = leaves[0].dtype

    def draws(self, seed: int, name: str, batch_size: int) -> list[BlockedDraws]:
        """The noise of the heads of an agent of that name, one sequence of ``[B, …]`` each."""
        return [
            BlockedDraws(head.draw, numpy_generator(seed, "action", name, index), (batch_size, head.n_parameters))
            for index, head in enumerate(self._heads)
        ]

    def actions(self, outputs: Tensor, noise: Sequence[NDArray[Any]] | None) -> list[Tensor]:
        """Actions ``[B, *shape]``, one tensor per leaf, for outputs ``[B, P]``; without noise the most likely ones."""
        if noise is None:
            modes = self.distribution(outputs).mode()
            return [mode.to(head.dtype) for head, mode in zip(self._heads, modes, strict=True)]
        parts = torch.split(outputs, self._sizes, dim=1)
        return [
            head(part, torch.from_numpy(drawn).to(part.device))
            for head, part, drawn in zip(self._heads, parts, noise, strict=True)
        ]

    def actions_on_arrays(self, outputs: NDArray[Any], noise: Sequence[NDArray[Any]] | None) -> NDArray[Any]:
        """The same on arrays, where the action has one leaf."""
        actions = self._heads[0].on_arrays(outputs, None if noise is None else noise[0])
        return actions.astype(self._dtype, copy=False)

    def distribution(self, outputs: Tensor) -> ActionDistribution:
        """The distributions over actions for outputs ``[N, P]``."""
        parts = torch.split(outputs, self._sizes, dim=1)
        return ActionDistribution([head.distribution(part) for head, part in zip(self._heads, parts, strict=True)])


def _head(leaf: LeafSpec, initial_log_std: float) -> CategoricalHead | GaussianHead:
    dtype = torch.from_numpy(np.empty(0, dtype=leaf.dtype)).dtype
    if leaf.counts is not None:
        counts = leaf.counts.ravel().tolist()
        start = [0] * len(counts) if leaf.start is None else leaf.start.ravel().tolist()
        return CategoricalHead(counts, start, leaf.shape, dtype)
    if not dtype.is_floating_point:
        raise ConfigurationError(f"'{leaf.name}' is a box of {leaf.dtype}; this policy writes boxes of floats only")
    return GaussianHead(leaf.shape, dtype, initial_log_std)
