"""REINFORCE learns the values and the best actions of the probes, in one environment and in two."""

from __future__ import annotations

from typing import Any

import pytest
from harness import assert_best_actions, assert_true_values, train_probe
from torch import Tensor

from bbrl_exp.agents import Agent
from bbrl_exp.envs import EnvSpec
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.reinforce import Reinforce
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import ValueCritic
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.9


def a_policy(env_spec: EnvSpec) -> Agent:
    return StochasticPolicy(env_spec, hidden_sizes=[16], initial_log_std=-1.0)


def with_baseline(env_spec: EnvSpec, policy: Any) -> Learner:
    critic = ValueCritic(env_spec, hidden_sizes=[16])
    return Reinforce(policy, critic, learning_rate=2e-2, anneal_learning_rate=True, discount=DISCOUNT)


def without_baseline(env_spec: EnvSpec, policy: Any) -> Learner:
    return Reinforce(policy, learning_rate=2e-2, anneal_learning_rate=True, discount=DISCOUNT)


@pytest.mark.parametrize(
    ("probe", "batch_size"),
    [
        ("ConstantReward", 1),
        ("Observation", 2),
        ("DelayedReward", 1),
        ("DelayedReward", 2),
        ("Action", 1),
        ("ObservationAction", 2),
        ("TimeLimit", 2),
    ],
)
def test_values_and_best_actions_are_learned(probe: str, batch_size: int) -> None:
    trained = train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        a_policy,
        with_baseline,
        batch_size=batch_size,
        steps_per_chunk=64 // batch_size,
        total_steps=64 * 150,
    )
    critic: Any = trained.learner.critic

    def values(workspace: Workspace) -> Tensor:
        return critic.values([workspace["env/env_obs"][-1]])  # type: ignore[no-any-return]

    assert_best_actions(trained, discount=DISCOUNT)
    assert_true_values(trained, values, discount=DISCOUNT)


@pytest.mark.parametrize(("probe", "batch_size"), [("Action", 1), ("ObservationAction", 2)])
def test_the_best_actions_are_learned_without_a_baseline(probe: str, batch_size: int) -> None:
    trained = train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        a_policy,
        without_baseline,
        batch_size=batch_size,
        steps_per_chunk=64 // batch_size,
        total_steps=64 * 60,
    )
    assert_best_actions(trained, discount=DISCOUNT)


def test_continuous_actions_are_learned() -> None:
    trained = train_probe(
        "bbrl_exp/ProbeObservationActionContinuous-v0",
        a_policy,
        with_baseline,
        batch_size=2,
        steps_per_chunk=64,
        total_steps=128 * 150,
    )
    assert_best_actions(trained, discount=DISCOUNT)
