"""The networks of action values of K jobs, and what is done with their outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.policies.q_network import QNetwork, combined
from bbrl_exp.stacked.networks import Stacked, StackedMlp, stacked_features


class StackedQNetwork:
    """K networks that are built alike.

    Args:
        network: the first of them.
        of: gives the stacked view ``[K, *shape]`` of a parameter of the first.

    Attributes:
        mlp: the perceptrons.
    """

    def __init__(self, network: QNetwork, of: Stacked) -> None:
        self._network = network
        self.mlp = StackedMlp(network.mlp, of)

    def __call__(self, observations: Sequence[Tensor]) -> Tensor:
        """Outputs ``[K, N, A, M]`` for observations, one tensor ``[K, N, *shape]`` per leaf."""
        outputs = self.mlp(stacked_features(self._network.features, observations))
        return combined(outputs, self._network.dueling, self._network.atoms.n_atoms)

    def values(self, observations: Sequence[Tensor]) -> Tensor:
        """Expected returns of the actions, ``[K, N, A]``."""
        return self._network.atoms.means(self(observations))


def of_actions(values: Tensor, indexes: Tensor) -> Tensor:
    """What belongs to one action each, ``[K, N, …]``, from ``[K, N, A, …]`` and ``[K, N]``."""
    places = indexes.reshape(*indexes.shape, *[1] * (values.dim() - 2)).expand(*indexes.shape, 1, *values.shape[3:])
    return torch.gather(values, 2, places).squeeze(2)
