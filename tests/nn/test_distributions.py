"""Distributions over actions agree with their definitions and with torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from bbrl_exp.nn.distributions import ActionDistribution, Categorical, Normal

N = 7


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def categorical(logits: Tensor, counts: list[int], start: list[int], shape: tuple[int, ...] = ()) -> Categorical:
    return Categorical(logits, counts, torch.tensor(start), shape, torch.int64)


def test_one_choice_is_torchs_categorical_whatever_its_smallest_value() -> None:
    logits, actions = values(N, 4), torch.arange(N) % 4
    ours, reference = categorical(logits, [4], [10]), distributions.Categorical(logits=logits)
    torch.testing.assert_close(ours.log_prob(actions + 10), reference.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), reference.entropy())
    assert ours.mode().tolist() == (logits.argmax(1) + 10).tolist()


def test_choices_of_equal_weight_have_the_entropy_of_a_die() -> None:
    die = categorical(torch.zeros(1, 6), [6], [1])
    torch.testing.assert_close(die.entropy(), torch.tensor([math.log(6)]))
    torch.testing.assert_close(die.log_prob(torch.tensor([3])), torch.tensor([-math.log(6)]))


def test_components_are_independent() -> None:
    counts, start = [2, 3, 4], [0, 5, -1]
    logits = values(N, 9)
    choices = torch.stack([torch.arange(N) % count for count in counts], dim=1)
    ours = categorical(logits, counts, start, (3,))
    references = [distributions.Categorical(logits=part) for part in logits.split(counts, 1)]
    expected = sum(reference.log_prob(choices[:, k]) for k, reference in enumerate(references))
    torch.testing.assert_close(ours.log_prob(choices + torch.tensor(start)), expected)
    torch.testing.assert_close(ours.entropy(), sum(reference.entropy() for reference in references))
    likeliest = torch.stack([part.argmax(1) for part in logits.split(counts, 1)], dim=1)
    assert ours.mode().tolist() == (likeliest + torch.tensor(start)).tolist()


def test_probabilities_of_all_joint_choices_sum_to_one() -> None:
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    ours = categorical(values(1, 5).expand(6, 5), [2, 3], [0, 0], (2,))
    torch.testing.assert_close(ours.log_prob(pairs).exp().sum(), torch.tensor(1.0).double())


def test_actions_keep_their_shape_and_dtype() -> None:
    grid = Categorical(values(N, 8), [2, 2, 2, 2], torch.zeros(4, dtype=torch.int64), (2, 2), torch.int8)
    mode = grid.mode()
    assert (mode.shape, mode.dtype) == ((N, 2, 2), torch.int8)
    assert grid.log_prob(mode).shape == (N,)
    assert bool((grid.log_prob(mode) >= grid.log_prob(1 - mode)).all())


def test_extreme_logits_stay_finite() -> None:
    certain = categorical(torch.tensor([[1000.0, -1000.0]]), [2], [0])
    assert certain.log_prob(torch.tensor([0])).item() == 0.0
    assert certain.log_prob(torch.tensor([1])).item() == -2000.0
    assert certain.entropy().item() == 0.0


@pytest.mark.parametrize("per_sample", [False, True], ids=["shared_std", "std_of_each_sample"])
def test_a_box_is_torchs_independent_normal(per_sample: bool) -> None:
    mean, log_std = values(N, 3), values(N, 3, seed=1) if per_sample else values(3, seed=1)
    actions = values(N, 3, seed=2)
    ours = Normal(mean, log_std, (3,))
    reference = distributions.Independent(distributions.Normal(mean, log_std.exp()), 1)
    torch.testing.assert_close(ours.log_prob(actions), reference.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), reference.entropy())
    assert torch.equal(ours.mode(), mean)


def test_a_box_of_any_shape_is_its_components_in_a_row() -> None:
    mean, log_std, actions = values(N, 6), values(6, seed=1), values(N, 2, 3, seed=2)
    flat, shaped = Normal(mean, log_std, (6,)), Normal(mean, log_std, (2, 3))
    assert torch.equal(shaped.log_prob(actions), flat.log_prob(actions.flatten(1)))
    assert torch.equal(shaped.mode(), mean.unflatten(1, (2, 3)))
    assert Normal(values(N, 1), values(1), ()).mode().shape == (N,)


def test_the_density_of_a_box_sums_to_one() -> None:
    line = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    ours = Normal(torch.full((len(line), 1), 0.7).double(), torch.tensor([0.3]).double(), (1,))
    total = torch.trapezoid(ours.log_prob(line.unsqueeze(1)).exp(), line)
    torch.testing.assert_close(total, torch.tensor(1.0).double())


def test_a_joint_distribution_is_the_product_of_its_leaves() -> None:
    choice, box = categorical(values(N, 4), [4], [0]), Normal(values(N, 2), values(2), (2,))
    joint = ActionDistribution([choice, box])
    actions = (torch.arange(N) % 4, values(N, 2, seed=3))
    torch.testing.assert_close(joint.log_prob(actions), choice.log_prob(actions[0]) + box.log_prob(actions[1]))
    torch.testing.assert_close(joint.entropy(), choice.entropy() + box.entropy())
    assert [leaf.tolist() for leaf in joint.mode()] == [choice.mode().tolist(), box.mode().tolist()]
    with pytest.raises(ValueError, match="shorter"):
        joint.log_prob(actions[:1])


def test_gradients_are_those_of_the_definition() -> None:
    logits = values(1, 3).requires_grad_()
    categorical(logits, [3], [0]).log_prob(torch.tensor([2])).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0, 1.0]]).double() - logits.detach().softmax(1))
    mean, log_std = values(1, 1).requires_grad_(), values(1, seed=1).requires_grad_()
    action = values(1, 1, seed=2)
    Normal(mean, log_std, (1,)).log_prob(action).sum().backward()
    variance = (2 * log_std.detach()).exp()
    torch.testing.assert_close(mean.grad, (action - mean.detach()) / variance)
    torch.testing.assert_close(log_std.grad, ((action - mean.detach()) ** 2 / variance - 1).squeeze(0))


def test_samples_of_torch_have_the_entropy_that_is_told() -> None:
    mean, log_std = torch.zeros(1, 2).double(), torch.tensor([0.5, -1.0]).double()
    drawn = values(50_000, 2) * log_std.exp()
    estimate = -Normal(mean.expand(len(drawn), -1), log_std, (2,)).log_prob(drawn).mean()
    torch.testing.assert_close(estimate, Normal(mean, log_std, (2,)).entropy()[0], atol=0.02, rtol=0)


def test_actions_of_another_shape_are_refused_and_not_broadcast() -> None:
    pair = categorical(values(N, 5), [2, 3], [0, 0], (2,))
    box = Normal(values(N, 3), values(3), (3,))
    for actions in (torch.zeros(N, 1).long(), torch.zeros(1, 2).long(), torch.zeros(N, 3).long()):
        with pytest.raises(RuntimeError, match="invalid for input of size"):
            pair.log_prob(actions)
    for drawn in (torch.zeros(N, 1), torch.zeros(1, 3), torch.zeros(N, 4)):
        with pytest.raises(RuntimeError, match="invalid for input of size"):
            box.log_prob(drawn)
