"""Distributions of returns on a fixed grid of atoms."""

from __future__ import annotations

import torch
from torch import Tensor

from bbrl_exp.functional.shapes import ShapeError, expect_alike


def categorical_projection(locations: Tensor, probabilities: Tensor, low: float, high: float) -> Tensor:
    """Moves probability mass from anywhere to a grid (Bellemare et al. 2017, "C51", algorithm 1).

    Each location, clipped to [low, high], shares its mass between its two neighbours on the grid of M equally spaced
    atoms, in proportion to how near they are: the mass is kept, and so is the mean where nothing was clipped.

    Args:
        locations: where the mass is, r + γ z [not terminated], ``[N, M]``.
        probabilities: how much mass is there, ``[N, M]``.
        low: the first atom.
        high: the last atom.

    Returns:
        Probabilities of the atoms low, low + (high - low) / (M - 1), …, high, ``[N, M]``.

    Raises:
        ShapeError: shapes that differ, or fewer than two atoms.
    """
    expect_alike("categorical_projection", "NM", locations=locations, probabilities=probabilities)
    n_atoms = probabilities.shape[1]
    if n_atoms < 2:
        raise ShapeError(f"categorical_projection: expected two atoms or more, found {n_atoms}")
    positions = ((locations.clamp(low, high) - low) * ((n_atoms - 1) / (high - low))).clamp(0.0, n_atoms - 1)
    # The last atom is the upper neighbour of the last interval, so that the two neighbours are never the same.
    below = positions.floor().clamp(max=n_atoms - 2)
    to_above = (positions - below) * probabilities
    index = below.long()
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(1, index, probabilities - to_above)
    return projected.scatter_add_(1, index + 1, to_above)
