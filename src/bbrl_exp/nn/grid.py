"""Grids of categories, such as what MiniGrid shows: what each cell holds, its colour, its state."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from bbrl_exp.nn.convolution import convolutions

SMALLEST_SIDE = 3


class GridPlanes(nn.Module):
    """One plane per category: 1 in the cells that have it, 0 elsewhere.

    Args:
        height: of the grid.
        width: of the grid.
        counts: number of categories of each of the K components of a cell.
        start: smallest value of each.

    Attributes:
        shape: ``(height, width, number of planes)``.
    """

    first_plane: Tensor

    def __init__(self, height: int, width: int, counts: Sequence[int], start: Sequence[int]) -> None:
        super().__init__()
        self.shape = (height, width, sum(counts))
        before = accumulate(counts[:-1], initial=0)
        first_plane = [n - smallest for n, smallest in zip(before, start, strict=True)]
        self.register_buffer("first_plane", torch.tensor(first_plane, dtype=torch.int64), persistent=False)

    def forward(self, cells: Tensor) -> Tensor:
        """Planes float32 ``[N, height, width, P]`` of integers ``[N, height, width, K]``."""
        planes = torch.zeros(cells.shape[0], *self.shape, device=cells.device)
        return planes.scatter(3, cells.to(torch.int64) + self.first_plane, 1.0)


class GridFeatures(nn.Module):
    """Two convolutions of 3 × 3 with ReLU over the planes of a grid, flattened.

    Weights are orthogonal with gain √2, biases zero.

    Args:
        planes: makes the planes, at least 3 cells high and wide.
        generator: source of the initial weights.
    """

    def __init__(self, planes: GridPlanes, generator: torch.Generator | None = None) -> None:
        super().__init__()
        height, width, n_planes = planes.shape
        self.planes = planes
        self.layers, self.n_features = convolutions(n_planes, height, width, generator)

    def forward(self, cells: Tensor) -> Tensor:
        """Features float32 ``[N, n_features]`` of integers ``[N, height, width, K]``."""
        return self.layers(self.planes(cells).movedim(3, 1)).flatten(1)  # type: ignore[no-any-return]
