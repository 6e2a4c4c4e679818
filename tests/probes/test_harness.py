"""A table of Q-values, which is right by construction, solves every probe that needs no memory, and fails that one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness import assert_best_actions, assert_true_values, shown, train_probe
from torch import Tensor

from bbrl_exp.agents import Agent
from bbrl_exp.data.transitions import align
from bbrl_exp.envs.probes import STORIES, probe_states
from bbrl_exp.functional.losses import q_target
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.seeding import torch_generator
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.9


def cell(observations: Tensor) -> Tensor:
    """The row of the table for observations ``[N, 2]``: three cues, three parts of the episode."""
    return ((observations[:, 0] + 1) * 3 + observations[:, 1] * 2).long()


class TablePolicy(Agent):
    """Random actions in training, the best ones of the table in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(9, 2))
        self.generator = torch_generator(0, "action")

    def forward(self, t: int, **kwargs: Any) -> None:
        observations = self.get(("env/env_obs", t))
        drawn = torch.randint(2, (len(observations),), generator=self.generator)
        self.set(("action", t), drawn if self.training else self.table[cell(observations)].argmax(dim=1))


class TableLearner(Learner):
    """Q-learning (Watkins, 1989), one transition at a time."""

    def __init__(self, policy: TablePolicy) -> None:
        super().__init__()
        self.table = policy.table
        self.is_bootstrapped_when_terminated = False

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        batch = align(workspace, ["env/env_obs"], ["action"], progress.first_row).flat()
        here, then, actions = cell(batch.observations[0]), cell(batch.next_observations[0]), batch.actions[0]
        for i in range(len(here)):
            one = slice(i, i + 1)
            terminated = batch.terminated[one] & (not self.is_bootstrapped_when_terminated)
            target = q_target(batch.rewards[one], terminated, DISCOUNT, self.table[then[one]].amax(dim=1))
            self.table[here[i], actions[i]] += 0.3 * (target[0] - self.table[here[i], actions[i]])
        return {"learner/q_mean": self.table.mean()}


def train(name: str, batch_size: int, bootstrapped_when_terminated: bool = False):
    def make_learner(_env_spec, policy):
        learner = TableLearner(policy)
        learner.is_bootstrapped_when_terminated = bootstrapped_when_terminated
        return learner

    return train_probe(
        f"bbrl_exp/Probe{name}-v0",
        lambda env_spec: TablePolicy(),
        make_learner,
        batch_size=batch_size,
        steps_per_chunk=7,
        total_steps=800,
        chunks_per_recording=3,
    )


def values(trained, workspace: Workspace) -> Tensor:
    return trained.policy.table[cell(workspace["env/env_obs"][-1])].amax(dim=1)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("name", [name for name in STORIES if name != "Memory"])
def test_a_table_learns_the_truth(name: str, batch_size: int) -> None:
    trained = train(name, batch_size)
    assert_true_values(trained, lambda workspace: values(trained, workspace), discount=DISCOUNT)
    assert_best_actions(trained, discount=DISCOUNT)
    assert list(trained.metrics) == ["learner/q_mean"]


def test_without_memory_one_of_the_two_cues_gets_the_wrong_action() -> None:
    trained = train("Memory", 2)
    with pytest.raises(AssertionError, match="the best one is"):
        assert_best_actions(trained, discount=DISCOUNT)


@pytest.mark.parametrize("name", ["ConstantReward", "DelayedReward"])
def test_a_learner_that_goes_on_after_the_end_is_found_out(name: str) -> None:
    trained = train(name, 1, bootstrapped_when_terminated=True)
    with pytest.raises(AssertionError, match="the true one is"):
        assert_true_values(trained, lambda workspace: values(trained, workspace), discount=DISCOUNT)


def test_an_episode_is_shown_as_an_environment_shows_it() -> None:
    trained = train("Memory", 2)
    (state,) = [s for s in probe_states(trained.env_id, DISCOUNT) if s.observations[0][0] == 1 and s.best_action == 1]
    workspace = shown(trained, state)
    assert workspace["env/env_obs"].tolist() == [[[1, 0]] * 2, [[0, 0.5]] * 2, [[0, 1]] * 2]
    assert workspace["env/initial_state"].tolist() == [[True] * 2, [False] * 2, [False] * 2]
    assert workspace["env/timestep"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert trained.policy.training
