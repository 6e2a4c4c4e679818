"""DDPG and TD3: losses by their definitions, and what they have in common."""

from __future__ import annotations

import pytest
import torch
from continuous_batches import DISCOUNT, batch, critic, deterministic, gradients, noise

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.ddpg import DDPG
from bbrl_exp.learners.td3 import TD3


def ddpg() -> DDPG:
    return DDPG(deterministic(), critic(1), discount=DISCOUNT)


def td3(n_critics: int = 2, **options: float) -> TD3:
    return TD3(deterministic(), critic(n_critics), discount=DISCOUNT, **options)  # type: ignore[arg-type]


def test_the_target_of_ddpg_is_the_reward_and_the_discounted_value_unless_terminated() -> None:
    learner, data = ddpg(), batch()
    next_actions = learner.policy.unit_actions(data.next_observations)
    (next_values,) = learner.critic.values(data.next_observations, next_actions)
    (values,) = learner.critic.values(data.observations, learner.policy.bounds.to_unit(data.actions[0]))
    expected = 0.0
    for n in range(6):
        target = data.rewards[n] + (0.0 if n in (2, 5) else 0.9 * next_values[n])
        expected += 0.5 * (values[n] - target) ** 2 / 6
    loss, found = learner.critic_loss(data, learner.next_actions(data))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found[0], values)


def test_no_gradient_of_the_critics_loss_reaches_policy_or_targets() -> None:
    learner = td3()
    learner.critic_loss(batch(), learner.next_actions(batch()))[0].backward()
    assert all(p.grad is None for p in learner.policy.parameters())
    assert all(p.grad is None for p in learner.target_critic.parameters())
    assert all(p.grad is not None for p in learner.critic.parameters())


def test_the_state_of_td3_has_the_same_names_with_every_delay() -> None:
    assert "policy_objective" in td3(policy_delay=1).state_dict()
    assert td3(policy_delay=1).state_dict().keys() == td3(policy_delay=2).state_dict().keys()
    assert "policy_objective" not in ddpg().state_dict()


def test_td3_without_smoothing_and_with_one_critic_is_ddpg() -> None:
    one, other = ddpg(), td3(1, smoothing_std=0.0, policy_delay=1)
    losses = [
        one.critic_loss(batch(), one.next_actions(batch()))[0],
        other.critic_loss(batch(), other.smoothed_actions(batch(), noise()))[0],
    ]
    torch.testing.assert_close(*losses)
    for learner, loss in zip((one, other), losses, strict=True):
        loss.backward()
        learner.policy_loss(batch()).backward()
    torch.testing.assert_close(one.policy_loss(batch()), other.policy_loss(batch()))
    for ours, theirs in zip(gradients(one), gradients(other), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_td3_believes_the_smaller_critic_of_the_smoothed_action() -> None:
    learner, data = td3(smoothing_std=0.4, smoothing_clip=0.3), batch()
    shift = torch.clamp(0.4 * noise(), -0.3, 0.3)
    actions = torch.clamp(learner.policy.unit_actions(data.next_observations) + shift, -1.0, 1.0)
    first, second = learner.critic.values(data.next_observations, actions)
    smaller = torch.where(first < second, first, second) * ~data.terminated
    target = data.rewards + 0.9 * smaller
    values = learner.critic.values(data.observations, learner.policy.bounds.to_unit(data.actions[0]))
    expected = 0.5 * ((values[0] - target) ** 2).mean() + 0.5 * ((values[1] - target) ** 2).mean()
    loss, _ = learner.critic_loss(data, learner.smoothed_actions(data, noise()))
    torch.testing.assert_close(loss, expected.detach(), check_stride=False)


def test_the_policy_of_td3_follows_the_first_critic_only() -> None:
    learner = td3()
    learner.policy_loss(batch()).backward()
    for parameter in learner.critic.parameters():
        assert not parameter.grad[1].any()
    assert any(parameter.grad.any() for parameter in learner.policy.parameters())


@pytest.mark.parametrize("make", [ddpg, td3])
def test_the_loss_of_two_batches_together_is_the_mean_of_each_alone(make) -> None:
    learner = make()

    def losses(first: int, n: int) -> torch.Tensor:
        data = batch(first, n)
        is_smooth = isinstance(learner, TD3)
        actions = learner.smoothed_actions(data, noise(first, n)) if is_smooth else learner.next_actions(data)
        return torch.stack([learner.critic_loss(data, actions)[0], learner.policy_loss(data)]).detach()

    torch.testing.assert_close(losses(0, 8), 0.5 * (losses(0, 4) + losses(4, 4)))


def test_ddpg_refuses_several_critics() -> None:
    with pytest.raises(ConfigurationError, match=r"n_critics=2.*TD3"):
        DDPG(deterministic(), critic(2))
