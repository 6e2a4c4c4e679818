"""The projection of C51 keeps what it must keep."""

from __future__ import annotations

import pytest
import torch

from bbrl_exp.functional.losses import categorical_projection
from bbrl_exp.functional.shapes import ShapeError

ATOMS = torch.linspace(-10, 10, 51, dtype=torch.float64)


def some_probabilities(n_samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n_samples, 51, dtype=torch.float64, generator=generator).softmax(dim=1)


def test_mass_is_shared_between_neighbours() -> None:
    # Atoms 0, 1, 2: all mass at 0.25, at 2, and at 1
    locations = torch.tensor([[0.25, 0.25, 0.25], [2.0, 2.0, 2.0], [1.0, 1.0, 1.0]])
    projected = categorical_projection(locations, torch.tensor([[0.5, 0.25, 0.25]] * 3), 0.0, 2.0)
    torch.testing.assert_close(projected, torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))


def test_a_distribution_on_the_grid_stays_what_it_is() -> None:
    probabilities = some_probabilities(4)
    torch.testing.assert_close(categorical_projection(ATOMS.expand(4, -1), probabilities, -10, 10), probabilities)


def test_mass_is_kept_and_so_is_the_mean_inside_the_support() -> None:
    probabilities, rewards = some_probabilities(4), torch.tensor([[0.5], [-0.3], [0.0], [1.0]], dtype=torch.float64)
    locations = rewards + 0.9 * ATOMS
    projected = categorical_projection(locations, probabilities, -10, 10)
    assert (projected >= 0).all()
    torch.testing.assert_close(projected.sum(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close((projected * ATOMS).sum(dim=1), (probabilities * locations).sum(dim=1))


def test_what_lies_outside_is_moved_to_the_ends() -> None:
    probabilities = some_probabilities(2)
    rewards = torch.tensor([[100.0], [-100.0]], dtype=torch.float64)
    projected = categorical_projection(rewards + 0.9 * ATOMS, probabilities, -10, 10)
    torch.testing.assert_close(projected[0, 50], torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(projected[1, 0], torch.tensor(1.0, dtype=torch.float64))


def test_single_precision_loses_no_mass_at_any_atom() -> None:
    locations = ATOMS.float()[:, None].expand(-1, 51)
    projected = categorical_projection(locations, torch.full((51, 51), 1 / 51), -10, 10)
    torch.testing.assert_close(projected, torch.eye(51), atol=1e-5, rtol=0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"locations \[51\]"):
        categorical_projection(ATOMS, some_probabilities(1), -10, 10)
    with pytest.raises(ShapeError, match="two atoms"):
        categorical_projection(torch.zeros(3, 1), torch.ones(3, 1), -10, 10)
