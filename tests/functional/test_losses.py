"""Losses and targets at values that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bbrl_exp.functional.losses import (
    approximate_kl,
    categorical_cross_entropy,
    clip_fraction,
    clipped_surrogate,
    clipped_value,
    double_q_values,
    explained_variance,
    huber,
    policy_gradient,
    q_target,
    quantile_huber,
)
from bbrl_exp.functional.shapes import ShapeError


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def logs(*values: float) -> Tensor:
    return numbers(*values).log()


def test_the_policy_gradient_makes_good_actions_likelier() -> None:
    log_probs = logs(0.5, 0.5).requires_grad_()
    advantages = numbers(3, -2).requires_grad_()
    losses = policy_gradient(log_probs, advantages)
    torch.testing.assert_close(losses, numbers(3 * math.log(2), -2 * math.log(2)))
    losses.sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [-3, 2]
    assert advantages.grad is None


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective"),
    [(1.0, 2, 2.0), (1.1, 2, 2.2), (1.5, 2, 2.4), (0.5, 2, 1.0), (1.5, -2, -3.0), (0.5, -2, -1.6), (0.9, -2, -1.8)],
)
def test_the_clipped_surrogate_is_the_lower_of_two_objectives(ratio: float, advantage: float, objective: float) -> None:
    loss = clipped_surrogate(logs(0.4 * ratio), logs(0.4), numbers(advantage), clip_range=0.2)
    torch.testing.assert_close(loss, numbers(-objective))


@pytest.mark.parametrize(("ratio", "advantage", "moves"), [(1.5, 2, 0), (0.5, -2, 0), (1.5, -2, 1), (0.5, 2, 1)])
def test_a_ratio_that_is_clipped_has_no_gradient(ratio: float, advantage: float, moves: int) -> None:
    log_probs = logs(0.4 * ratio).requires_grad_()
    clipped_surrogate(log_probs, logs(0.4), numbers(advantage), clip_range=0.2).sum().backward()
    torch.testing.assert_close(log_probs.grad, numbers(-moves * advantage * ratio))


def test_at_the_old_policy_the_surrogate_has_the_policy_gradient() -> None:
    advantages = numbers(1, -2, 3)
    one, other = logs(0.1, 0.2, 0.3).requires_grad_(), logs(0.1, 0.2, 0.3).requires_grad_()
    clipped_surrogate(one, one.detach(), advantages, clip_range=0.2).mean().backward()
    policy_gradient(other, advantages).mean().backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_the_clip_fraction_counts_ratios_beyond_the_range() -> None:
    old = logs(0.4, 0.4, 0.4, 0.4)
    new = logs(0.4 * 1.1, 0.4 * 1.3, 0.4 * 0.7, 0.4 * 0.9)
    assert clip_fraction(new, old, 0.2) == 0.5


def test_the_approximate_kl_is_exact_on_average_and_never_negative() -> None:
    old, new = numbers(0.2, 0.3, 0.5), numbers(0.25, 0.35, 0.4)
    samples = approximate_kl(new.log(), old.log())
    assert (samples > 0).all()
    torch.testing.assert_close((old * samples).sum(), (old * (old / new).log()).sum())
    assert (approximate_kl(old.log(), old.log()) == 0).all()


@pytest.mark.parametrize(
    ("value", "target", "loss"),
    [
        (1.1, 3.0, 1.9**2),  # within the range
        (2.0, 3.0, 1.8**2),  # better than allowed: as if it had moved by 0.2 only
        (2.0, 0.0, 2.0**2),  # worse: counted as it is
        (0.0, -3.0, 3.8**2),
    ],
)
def test_the_clipped_value_loss_is_the_worse_of_two_errors(value: float, target: float, loss: float) -> None:
    torch.testing.assert_close(clipped_value(numbers(value), numbers(1), numbers(target), 0.2), numbers(loss))


def test_huber_is_quadratic_and_then_linear() -> None:
    torch.testing.assert_close(huber(numbers(0, 0.5, -1, 3, -3)), numbers(0, 0.125, 0.5, 2.5, 2.5))
    torch.testing.assert_close(huber(numbers(1, -4), threshold=2.0), numbers(0.5, 2 * (4 - 1)))


def test_the_gradient_of_huber_is_the_clipped_error() -> None:
    errors = numbers(0, 0.5, -1, 3, -3).requires_grad_()
    huber(errors).sum().backward()
    torch.testing.assert_close(errors.grad, numbers(0, 0.5, -1, 1, -1))


def test_quantile_huber_of_one_quantile_by_hand() -> None:
    # The level is 1/2; u = 0.5 and -2: (0.5·0.125 + 0.5·1.5) / 2
    torch.testing.assert_close(quantile_huber(numbers(1)[None], numbers(1.5, -1)[None]), numbers(0.40625))


def test_quantile_huber_of_two_quantiles_by_hand() -> None:
    # Levels 1/4 and 3/4, target 10: u = 10 and -10, L = 9.5; 0.25·9.5 + |0.75 - 1|·9.5
    torch.testing.assert_close(quantile_huber(numbers(0, 20)[None], numbers(10)[None]), numbers(4.75))
    # u = -10 for the lower one and 10 for the upper one: 0.75·9.5 twice
    torch.testing.assert_close(quantile_huber(numbers(20, 0)[None], numbers(10)[None]), numbers(14.25))


def test_quantile_huber_is_least_at_the_quantiles() -> None:
    targets = torch.linspace(0, 1, 1001, dtype=torch.float64)[None]
    quantiles = numbers(0.125, 0.375, 0.625, 0.875)[None].requires_grad_()
    quantile_huber(quantiles, targets, threshold=1e-6).sum().backward()
    assert quantiles.grad is not None
    assert (quantiles.grad.abs() < 1e-8).all()
    for shift in (-0.05, 0.05):
        assert quantile_huber(quantiles + shift, targets) > quantile_huber(quantiles, targets)


def test_quantile_huber_keeps_samples_apart() -> None:
    quantiles, targets = torch.randn(3, 4), torch.randn(3, 5)
    alone = [quantile_huber(quantiles[i : i + 1], targets[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(quantile_huber(quantiles, targets), torch.cat(alone))


def test_the_target_is_bootstrapped_unless_terminated() -> None:
    terminated = torch.tensor([False, True])
    next_values = numbers(10, 10).requires_grad_()
    target = q_target(numbers(1, 2), terminated, 0.9, next_values)
    torch.testing.assert_close(target, numbers(10, 2))
    assert not target.requires_grad
    torch.testing.assert_close(
        q_target(numbers(1, 2), ~terminated, numbers(0.9, 0.81), next_values), numbers(1, 2 + 8.1)
    )


def test_double_q_learning_chooses_with_one_network_and_values_with_the_other() -> None:
    selecting, evaluating = torch.tensor([[1.0, 2.0], [2.0, 1.0]]), torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    assert double_q_values(selecting, evaluating).tolist() == [20, 30]


def test_the_cross_entropy_is_least_where_both_are_equal() -> None:
    targets = numbers(0.25, 0.75)[None]
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(categorical_cross_entropy(targets.log(), targets), numbers(entropy))
    assert categorical_cross_entropy(logs(0.5, 0.5)[None], targets) > entropy


def test_the_explained_variance_is_one_for_a_perfect_prediction_and_zero_for_a_constant() -> None:
    targets = numbers(1, 2, 3, 4)
    assert explained_variance(targets + 7, targets) == 1
    assert not explained_variance(targets.clone().requires_grad_(), targets).requires_grad
    assert explained_variance(numbers(5, 5, 5, 5), targets) == 0
    assert explained_variance(-targets, targets) == -3
    assert explained_variance(targets, numbers(5, 5, 5, 5)) == 0


def test_shapes_that_would_broadcast_are_refused() -> None:
    four, column = torch.zeros(4), torch.zeros(4, 1)
    with pytest.raises(ShapeError, match=r"\[N\], found log_probs \[4\], advantages \[4, 1\]"):
        policy_gradient(four, column)
    with pytest.raises(ShapeError, match="clipped_surrogate"):
        clipped_surrogate(four, column, four, 0.2)
    with pytest.raises(ShapeError, match="q_target"):
        q_target(four, four.bool(), column, four)
    with pytest.raises(ShapeError, match=r"terminated of torch\.float32"):
        q_target(four, four, 0.9, four)
    with pytest.raises(ShapeError, match=r"found \[4\] and \[4, 1\]"):
        quantile_huber(four, column)
