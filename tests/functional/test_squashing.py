"""The squashed normal against torch.distributions, and where tanh is flat."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from bbrl_exp.functional.shapes import ShapeError
from bbrl_exp.functional.squashing import (
    bounds_to_unit,
    log_tanh_derivative,
    squashed_log_prob,
    squashed_normal,
    unit_to_bounds,
)


def parameters() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 6, 2, dtype=torch.float64, generator=generator)
    return mean, 0.5 * log_std, noise


def test_the_log_probability_is_that_of_the_transformed_normal() -> None:
    mean, log_std, noise = parameters()
    sample = squashed_normal(mean, log_std, noise)
    torch.testing.assert_close(sample.pre_tanh, mean + log_std.exp() * noise)
    torch.testing.assert_close(sample.action, sample.pre_tanh.tanh())
    normal = Independent(Normal(mean, log_std.exp(), validate_args=False), 1, validate_args=False)
    expected = TransformedDistribution(normal, [TanhTransform()], validate_args=False).log_prob(sample.action)
    torch.testing.assert_close(sample.log_prob, expected)
    torch.testing.assert_close(squashed_log_prob(sample.pre_tanh, mean, log_std), expected)


def test_the_density_integrates_to_one() -> None:
    actions = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1, None]
    mean, log_std = torch.full_like(actions, 0.3), torch.full_like(actions, -0.5)
    density = squashed_log_prob(actions.atanh(), mean, log_std).exp()
    assert torch.trapezoid(density, actions[:, 0]).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_derivative_of_tanh_is_finite_and_right_where_tanh_is_flat(dtype: torch.dtype) -> None:
    inputs = torch.tensor([-20.0, -10.0, 0.0, 10.0, 20.0], dtype=dtype)
    # 1 - tanh² = 1 / cosh², and cosh x is e^|x| / 2 far from 0
    expected = torch.tensor([-40 + 2 * math.log(2), -20 + 2 * math.log(2), 0.0], dtype=dtype)
    found = log_tanh_derivative(inputs)
    torch.testing.assert_close(found[:3], expected)
    torch.testing.assert_close(found[2:], expected.flip(0))


def test_far_samples_have_finite_log_probabilities_and_gradients() -> None:
    mean = torch.tensor([[-20.0, 20.0]], requires_grad=True)
    log_std = torch.tensor([[-5.0, 2.0]], requires_grad=True)
    sample = squashed_normal(mean, log_std, torch.tensor([[1.0, -0.5]]))
    sample.log_prob.sum().backward()
    for values in (sample.log_prob, mean.grad, log_std.grad):
        assert values is not None
        assert torch.isfinite(values).all()


def test_gradients_of_the_sample_are_reparametrised() -> None:
    mean, log_std, noise = parameters()
    mean.requires_grad_()
    squashed_normal(mean, log_std, noise).action.sum().backward()
    torch.testing.assert_close(mean.grad, 1 - (mean + log_std.exp() * noise).detach().tanh() ** 2)


def test_bounds_are_reached_at_the_ends_and_scaling_is_undone() -> None:
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 10.0])
    unit = torch.tensor([[-1.0, 1.0], [0.0, 0.0], [0.5, -1.0]])
    scaled = unit_to_bounds(unit, low, high)
    assert scaled.tolist() == [[-2, 10], [0, 5], [1, 0]]
    assert torch.equal(bounds_to_unit(scaled, low, high), unit)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"log_std \[2\]"):
        squashed_normal(torch.zeros(5, 2), torch.zeros(2), torch.zeros(5, 2))
