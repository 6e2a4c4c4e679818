"""Recurrent A2C and PPO learn the values and the best actions of the probes, that of memory included."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from harness import TrainedProbe, assert_best_actions, assert_true_values, train_probe
from recurrent_grid import CELLS, DISCOUNT, LEARNERS, PAIRS
from torch import Tensor

from bbrl_exp.agents import Agent, Agents
from bbrl_exp.envs import EnvSpec
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.ppo import PPO
from bbrl_exp.learners.recurrent_a2c import RecurrentA2C
from bbrl_exp.learners.recurrent_ppo import RecurrentPPO
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy, SharedMemoryCritic
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import ValueCritic
from bbrl_exp.workspace import Workspace

# The value of the time limit's probe is 1 / (1 - γ), which takes long to learn for a large γ.
DISCOUNTS = {"DelayedReward": 0.9, "TimeLimit": 0.5, "Memory": 0.9}
OPTIONS: dict[str, Any] = {"learning_rate": 1e-2, "anneal_learning_rate": True, "value_weight": 1.0}


def a_policy(env_spec: EnvSpec) -> Agent:
    return RecurrentPolicy(env_spec, partial(GRU, n_hidden=16), initial_log_std=-1.0)


def an_a2c(policy: Any, discount: float) -> Learner:
    return RecurrentA2C(policy, SharedMemoryCritic(policy), **{**OPTIONS, "learning_rate": 2e-2}, discount=discount)


def a_ppo(policy: Any, discount: float) -> Learner:
    # Where no action matters, normalised advantages are noise of variance 1, which shakes the memory.
    return RecurrentPPO(
        policy, SharedMemoryCritic(policy), **OPTIONS, n_epochs=8, normalize_advantages=False, discount=discount
    )


def values(trained: TrainedProbe, workspace: Workspace) -> Tensor:
    policy, critic = trained.policy, trained.learner.critic
    if isinstance(policy, Agents):
        return workspace["critic/value"][-1]
    rows = [workspace["env/env_obs"]]
    starts = workspace["env/initial_state"]
    state = workspace["policy/state"][0]
    return critic.values(policy.latent(rows, state, starts), rows, state, starts)[-1]


@pytest.mark.parametrize(
    ("make_learner", "probe", "batch_size"),
    [
        (a_ppo, "DelayedReward", 1),
        (a_ppo, "TimeLimit", 2),
        (a_ppo, "Memory", 1),
        (an_a2c, "TimeLimit", 1),
        (an_a2c, "Memory", 2),
    ],
)
def test_values_and_best_actions_are_learned(make_learner: Any, probe: str, batch_size: int) -> None:
    discount = DISCOUNTS[probe]
    updates = (100 if probe == "Memory" else 50) if make_learner is a_ppo else 250
    trained = train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        a_policy,
        lambda _env_spec, policy: make_learner(policy, discount),
        batch_size=batch_size,
        steps_per_chunk=32 // batch_size,
        total_steps=32 * updates,
    )
    assert_best_actions(trained, discount=discount)
    assert_true_values(trained, lambda workspace: values(trained, workspace), discount=discount)


def test_an_lstm_and_a_critic_with_a_memory_of_its_own_learn_to_remember() -> None:
    def make_agents(env_spec: EnvSpec) -> Agent:
        policy = RecurrentPolicy(env_spec, partial(LSTM, n_hidden=16))
        return Agents(policy, MemoryCritic(env_spec, partial(LSTM, n_hidden=16)))

    def make_learner(_env_spec: EnvSpec, agents: Any) -> Learner:
        return RecurrentPPO(*agents, **OPTIONS, n_epochs=8, normalize_advantages=False, discount=0.9)

    trained = train_probe(
        "bbrl_exp/ProbeMemory-v0", make_agents, make_learner, batch_size=2, steps_per_chunk=16, total_steps=32 * 100
    )
    assert_best_actions(trained, discount=0.9)
    assert_true_values(trained, lambda workspace: values(trained, workspace), discount=0.9)


def test_without_a_memory_one_of_the_two_cues_gets_the_wrong_action() -> None:
    torch.manual_seed(0)
    trained = train_probe(
        "bbrl_exp/ProbeMemory-v0",
        lambda env_spec: StochasticPolicy(env_spec, hidden_sizes=[16]),
        lambda env_spec, policy: PPO(policy, ValueCritic(env_spec, hidden_sizes=[16]), **OPTIONS, discount=0.9),  # type: ignore[arg-type]
        batch_size=2,
        steps_per_chunk=16,
        total_steps=32 * 60,
    )
    with pytest.raises(AssertionError, match="the best one is"):
        assert_best_actions(trained, discount=0.9)


# Each cell once and each learner once or more; benchmarks/memory_probes.py has a table of all pairs.
@pytest.mark.parametrize(
    ("cell", "learner"),
    [("lru", "a2c"), ("min_gru", "pqn"), ("gtrxl", "ppo"), ("stack", "dqn"), ("lstm", "sac")],
)
def test_cells_and_learners_remember_together(cell: str, learner: str) -> None:
    assert (cell, learner) in PAIRS
    torch.manual_seed(0)
    trained, values_of = LEARNERS[learner](CELLS[cell])
    assert_best_actions(trained, discount=DISCOUNT)
    # SAC values what its policy does, which nears the best action slowly; without a memory it would err by a quarter.
    assert_true_values(trained, values_of, discount=DISCOUNT, tolerance=0.1 if learner == "sac" else 0.01)
