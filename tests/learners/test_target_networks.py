"""Learners with critics of actions: what is expected of the future comes from slow copies, which follow by a rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from continuous_batches import (
    DISCOUNT,
    batch,
    critic,
    deterministic,
    discrete_batch,
    discrete_spec,
    experience,
    noise,
    squashed,
)
from torch import Tensor, nn

from bbrl_exp.data.replay import Batch
from bbrl_exp.learners.ddpg import DDPG
from bbrl_exp.learners.discrete_sac import DiscreteSAC
from bbrl_exp.learners.droq import DroQ
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.learners.sac import SAC
from bbrl_exp.learners.td3 import TD3
from bbrl_exp.learners.tqc import TQC
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble
from bbrl_exp.policies.stochastic import StochasticPolicy


def discrete_sac(**options: Any) -> DiscreteSAC:
    policy = StochasticPolicy(discrete_spec(), (8,), seed=1)
    return DiscreteSAC(policy, DiscreteQEnsemble(discrete_spec(), 2, (8,), seed=2), **options)


LEARNERS: dict[str, Callable[..., Learner]] = {
    "DDPG": lambda **options: DDPG(deterministic(), critic(1), **options),
    "TD3": lambda **options: TD3(deterministic(), critic(), policy_delay=1, **options),
    "SAC": lambda **options: SAC(squashed(), critic(), **options),
    "TQC": lambda **options: TQC(squashed(), critic(n_quantiles=5), **options),
    "DroQ": lambda **options: DroQ(squashed(), critic(), **options),
    "DiscreteSAC": discrete_sac,
}
EVERY_LEARNER = pytest.mark.parametrize("name", list(LEARNERS))
WITH_A_TARGET_POLICY = pytest.mark.parametrize("name", ["DDPG", "TD3"])


def critic_loss(learner: Any, data: Batch) -> float:
    drawn: tuple[Tensor, ...] = () if isinstance(learner, DiscreteSAC) else (noise(),)
    if isinstance(learner, DDPG | TD3):
        drawn = (learner.smoothed_actions(data, *drawn) if isinstance(learner, TD3) else learner.next_actions(data),)
    return float(learner.critic_loss(data, *drawn)[0].detach())


@EVERY_LEARNER
def test_a_target_critic_that_expects_more_is_as_good_as_larger_rewards_unless_terminated(name: str) -> None:
    learner: Any = LEARNERS[name](discount=DISCOUNT)
    data = discrete_batch() if name == "DiscreteSAC" else batch()
    more = replace(data, rewards=data.rewards + DISCOUNT * 5.0 * ~data.terminated)
    expected = critic_loss(learner, more)
    with torch.no_grad():
        learner.target_critic.network.biases[-1].add_(5.0)
    assert critic_loss(learner, data) == pytest.approx(expected, rel=1e-5)


def move(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5)


@WITH_A_TARGET_POLICY
def test_the_next_action_is_that_of_the_target_policy(name: str) -> None:
    learner: Any = LEARNERS[name](discount=DISCOUNT)
    before = critic_loss(learner, batch())
    move(learner.policy)
    assert critic_loss(learner, batch()) == before
    move(learner.target_policy)
    assert critic_loss(learner, batch()) != before


def copies(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


@EVERY_LEARNER
def test_the_targets_follow_by_the_target_rate(name: str) -> None:
    rates = {"policy_learning_rate": 0.1, "critic_learning_rate": 0.1, "target_rate": 0.5}
    learner: Any = LEARNERS[name](learning_starts=3, updates_per_step=1.0, batch_size=4, **rates)
    followed = ["critic", "policy"] if hasattr(learner, "target_policy") else ["critic"]
    before = {part: copies(getattr(learner, part)) for part in followed}
    learner.update(experience(discrete=name == "DiscreteSAC"), Progress(0, 4, 100, 4))
    for part, olds in before.items():
        targets, online = copies(getattr(learner, f"target_{part}")), copies(getattr(learner, part))
        assert max(float((now - old).abs().max()) for now, old in zip(online, olds, strict=True)) > 0.09
        for old, target, now in zip(olds, targets, online, strict=True):
            torch.testing.assert_close(target, torch.lerp(old, now, 0.5), atol=0.0, rtol=1e-6)
