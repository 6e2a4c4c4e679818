"""BBRL's returns and losses, against their definitions."""

from __future__ import annotations

import pytest
import torch
from bbrl.utils import functional, functionalb

from bbrl_exp.errors import ConfigurationError

GAMMA, DECAY = 0.9, 0.8


def by_hand(reward: list[float], values: list[float], following: list[float], goes_on: list[bool]) -> list[float]:
    advantages, later = [], 0.0
    for r, v, w, continues in reversed(list(zip(reward, values, following, goes_on, strict=True))):
        later = r + GAMMA * w * continues - v + GAMMA * DECAY * continues * later
        advantages.append(later)
    return advantages[::-1]


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_advantages_of_transitions() -> None:
    reward, values, following, goes_on = [1.0, 2.0, 3.0], [0.5, 0.1, 0.2], [0.1, 0.2, 0.7], [True, False, True]
    arguments = column(reward), column(following), column(goes_on), column(values), GAMMA, DECAY
    expected = by_hand(reward, values, following, goes_on)
    assert functional.gae(*arguments).flatten().tolist() == pytest.approx(expected)
    names = ("reward", "next_critic", "must_bootstrap", "critic", "discount_factor", "gae_coef")
    named = functional.gae(**dict(zip(names, arguments, strict=True)))
    assert named.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("module", "first"), [(functional, 1), (functionalb, 0)])
def test_advantages_of_rows_with_the_reward_in_either_place(module: object, first: int) -> None:
    values, rewards, goes_on = [0.5, 0.1, 0.2, 0.7], [9.0, 1.0, 2.0, 3.0], [True, False, True]
    found = module.gae(column(values), column(rewards), column(goes_on), GAMMA, DECAY)  # type: ignore[attr-defined]
    expected = by_hand(rewards[first : first + 3], values[:-1], values[1:], goes_on)
    assert found.flatten().tolist() == pytest.approx(expected)


def test_advantages_of_one_environment_may_lack_a_batch() -> None:
    reward, values, following, goes_on = [1.0, 2.0, 3.0], [0.5, 0.1, 0.2], [0.1, 0.2, 0.7], [True, False, True]
    tensors = (torch.tensor(each) for each in (reward, following, goes_on, values))
    assert functional.gae(*tensors, GAMMA, DECAY).tolist() == pytest.approx(by_hand(reward, values, following, goes_on))


def test_the_trace_ends_with_a_truncated_episode_where_that_is_told() -> None:
    zeros, ones = torch.zeros(3, 1), torch.ones(3, 1, dtype=torch.bool)
    reward, cut = column([0.0, 0.0, 1.0]), column([False, True, False])
    leaking = functional.gae(reward, zeros, ones, zeros, GAMMA, DECAY)
    assert leaking[0].item() == pytest.approx((GAMMA * DECAY) ** 2)
    assert functional.gae(reward, zeros, ones, zeros, GAMMA, DECAY, cut=cut).flatten().tolist() == [0, 0, 1]


def test_the_critic_keeps_its_gradient_and_the_next_one_has_none() -> None:
    values, following = torch.ones(2, 1, requires_grad=True), torch.ones(2, 1, requires_grad=True)
    functional.gae(torch.ones(2, 1), following, torch.ones(2, 1), values, GAMMA, 0.0).sum().backward()
    assert values.grad.flatten().tolist() == [-1, -1]
    assert following.grad is None


def test_other_arguments_are_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        functional.gae(1, 2, 3)
    assert str(caught.value) == (
        "gae: expected (reward, next_critic, must_bootstrap, critic, discount_factor, gae_coef) or "
        "(critic, reward, must_bootstrap, discount_factor, gae_coef)"
    )


@pytest.mark.parametrize(("module", "first"), [(functional, 1), (functionalb, 0)])
def test_the_error_of_a_value_is_that_of_one_step(module: object, first: int) -> None:
    rewards, values, goes_on = [9.0, 1.0, 2.0], [0.5, 1.0, 0.9], [True, False]
    found = module.temporal_difference(column(values), column(rewards), column(goes_on), GAMMA)  # type: ignore[attr-defined]
    expected = [rewards[first] + GAMMA * 1.0 - 0.5, rewards[first + 1] - 1.0, 0]
    assert found.flatten().tolist() == pytest.approx(expected)


def test_double_q_learning_values_the_chosen_action_by_the_target() -> None:
    q = torch.tensor([[[1.0, 2.0]], [[4.0, 3.0]]])
    target = torch.tensor([[[7.0, 8.0]], [[5.0, 6.0]]])
    found = functional.doubleqlearning_temporal_difference(
        q, torch.tensor([[1], [0]]), target, column([9.0, 1.0]), column([True]), GAMMA
    )
    assert found.flatten().tolist() == pytest.approx([1 + GAMMA * 5 - 2, 0])
    later = functionalb.doubleqlearning_temporal_difference(
        q, torch.tensor([[1], [0]]), target, column([9.0, 1.0]), column([True]), GAMMA
    )
    assert later.flatten().tolist() == pytest.approx([9 + GAMMA * 5 - 2, 0])


def test_the_return_is_counted_up_to_the_end() -> None:
    reward = torch.tensor([[1.0, 1.0], [2.0, 10.0], [4.0, 100.0]])
    done = torch.tensor([[False, False], [True, False], [True, True]])
    assert functional.cumulated_reward(reward, done) == (3 + 111) / 2
    with pytest.raises(ConfigurationError) as caught:
        functional.cumulated_reward(reward, torch.zeros_like(done))
    assert str(caught.value) == "cumulated_reward: every episode must be done at some row; run until all are"


def test_the_losses_of_reinforce() -> None:
    reward, done = column([0.0, 1.0, 2.0, 50.0]), column([False, False, True, True])
    probabilities = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]], [[0.5, 0.5]], [[0.5, 0.5]]])
    baseline, action = column([0.0, 0.5, 0.0, 0.0]), column([0, 1, 0, 0])
    losses = functional.compute_reinforce_loss(reward, probabilities, baseline, action, done, GAMMA)
    returns = torch.tensor([1 + GAMMA * 2, 2.0, 0.0])
    errors = torch.tensor([0.0, 0.5, 0.0]) - returns
    assert losses["baseline_loss"].item() == pytest.approx((errors**2).sum().item() / 3)
    log_probs = torch.tensor([0.5, 0.75, 0.5]).log()
    assert losses["policy_loss"].item() == pytest.approx((-log_probs * errors).sum().item() / 3)
    entropies = [torch.distributions.Categorical(probs=p[0]).entropy().item() for p in probabilities[:3]]
    assert losses["entropy_loss"].item() == pytest.approx(sum(entropies) / 3)
    with pytest.raises(ConfigurationError) as caught:
        functional.compute_reinforce_loss(reward, probabilities, baseline, action, torch.zeros_like(done), GAMMA)
    assert str(caught.value) == "compute_reinforce_loss: every episode must be done at some row; run until all are"
