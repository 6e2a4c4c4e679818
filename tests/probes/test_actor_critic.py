"""A2C and PPO learn the values and the best actions of the probes, in one environment and in two."""

from __future__ import annotations

from typing import Any

import pytest
from harness import assert_best_actions, assert_true_values, train_probe
from torch import Tensor

from bbrl_exp.agents import Agent
from bbrl_exp.envs import EnvSpec
from bbrl_exp.learners.a2c import A2C
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.ppo import PPO
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import ValueCritic
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.9
# The value of the time limit's probe is 1 / (1 - γ), which takes long to learn for a large γ.
OF_TIME_LIMIT = 0.5
# Probe and number of environments. The other probes are special cases of these.
PROBES = [
    ("DelayedReward", 1),
    ("DelayedReward", 2),
    ("ObservationAction", 1),
    ("ObservationAction", 2),
    ("TimeLimit", 2),
]


def a_policy(env_spec: EnvSpec) -> Agent:
    return StochasticPolicy(env_spec, hidden_sizes=[16], initial_log_std=-1.0)


def an_a2c(env_spec: EnvSpec, policy: Any, discount: float = DISCOUNT) -> Learner:
    critic = ValueCritic(env_spec, hidden_sizes=[16])
    return A2C(policy, critic, optimizer="adam", learning_rate=2e-2, anneal_learning_rate=True, discount=discount)


def a_ppo(env_spec: EnvSpec, policy: Any, discount: float = DISCOUNT) -> Learner:
    critic = ValueCritic(env_spec, hidden_sizes=[16])
    return PPO(policy, critic, learning_rate=1e-2, anneal_learning_rate=True, discount=discount)


def a_penalised_ppo(env_spec: EnvSpec, policy: Any, discount: float = DISCOUNT) -> Learner:
    critic = ValueCritic(env_spec, hidden_sizes=[16])
    return PPO(policy, critic, objective="kl", learning_rate=1e-2, anneal_learning_rate=True, discount=discount)


@pytest.mark.parametrize(
    ("make_learner", "probe", "batch_size"),
    [
        *((make_learner, *probe) for make_learner in (an_a2c, a_ppo) for probe in PROBES),
        *((a_penalised_ppo, "ObservationAction", batch_size) for batch_size in (1, 2)),
    ],
)
def test_values_and_best_actions_are_learned(make_learner: Any, probe: str, batch_size: int) -> None:
    discount = OF_TIME_LIMIT if probe == "TimeLimit" else DISCOUNT
    updates = {an_a2c: 120, a_ppo: 60, a_penalised_ppo: 80}[make_learner]
    trained = train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        a_policy,
        lambda env_spec, policy: make_learner(env_spec, policy, discount),
        batch_size=batch_size,
        steps_per_chunk=32 // batch_size,
        total_steps=32 * updates,
    )
    critic = trained.learner.critic

    def values(workspace: Workspace) -> Tensor:
        return critic.values([workspace["env/env_obs"][-1]])

    assert_best_actions(trained, discount=discount)
    assert_true_values(trained, values, discount=discount)


@pytest.mark.parametrize("probe", ["Action", "ObservationAction"])
@pytest.mark.parametrize("make_learner", [an_a2c, a_ppo])
def test_continuous_actions_are_learned(make_learner: Any, probe: str) -> None:
    trained = train_probe(
        f"bbrl_exp/Probe{probe}Continuous-v0",
        a_policy,
        make_learner,
        batch_size=2,
        steps_per_chunk=64 if make_learner is a_ppo else 16,
        total_steps=128 * 40,
    )
    assert_best_actions(trained, discount=DISCOUNT)
