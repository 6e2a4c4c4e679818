"""Subclasses of the environment agents with constructors of their own are copied, cloned, pickled and evaluated."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import pytest
import torch

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.checks import played, random_actions
from bbrl_exp.envs.gym_agents import AutoResetGymAgent, GymAgent, NoAutoResetGymAgent
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.workspace import Workspace


@dataclass
class Task:
    name: str = "CartPole-v1"
    n_envs: int = 2
    seed: int = 3


class OfTask(AutoResetGymAgent):
    """All arguments of the base class come from one of another kind."""

    def __init__(self, task: Task) -> None:
        super().__init__(partial(gymnasium.make, task.name), task.n_envs, task.seed, name="tasks")


class Counting(AutoResetGymAgent):
    """Takes more arguments, has attributes of the size of the batch, and writes another variable."""

    def __init__(self, env: str, batch_size: int, bonus: float, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(env, batch_size, seed, **kwargs)
        self.bonus = bonus
        self.n_steps = torch.zeros(batch_size)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def step(self, t: int) -> None:
        super().step(t)
        self.n_steps += 1
        with torch.no_grad():
            self.set(("bonus", t), self.scale * self.bonus * self.n_steps)

    def reset(self) -> None:
        super().reset()
        self.set(("bonus", 0), 0 * self.n_steps)


class Deeper(Counting):
    """A subclass of a subclass, with fewer arguments."""

    def __init__(self, batch_size: int = 2) -> None:
        super().__init__("CartPole-v1", batch_size, 0.5, seed=3, name="deeper")


def agents() -> list[GymAgent]:
    return [OfTask(Task()), Counting("CartPole-v1", 2, 0.5, seed=3, role="train"), Deeper()]


def rows(agent: GymAgent) -> Workspace:
    return played(agent, Workspace(), random_actions(agent.env_spec, 60))


@pytest.mark.parametrize("kind", range(3))
def test_copies_are_of_the_same_class_and_begin_from_the_seed(kind: int) -> None:
    agent = agents()[kind]
    expected = rows(agent)
    for copied in (copy.deepcopy(agent), agent.clone(), pickle.loads(pickle.dumps(agent)), agent.clone().clone()):
        assert type(copied) is type(agent)
        assert (copied.name, copied.batch_size, copied.training) == (agent.name, 2, True)
        found = rows(copied)
        assert list(found.keys()) == list(expected.keys())
        assert all(found[name].equal(expected[name]) for name in expected.keys())  # noqa: SIM118


@pytest.mark.parametrize("kind", range(3))
def test_evaluations_have_the_class_another_batch_size_and_another_seed(kind: int) -> None:
    agent = agents()[kind]
    evaluating = agent.for_evaluation(4, 7, "eval")
    assert (type(evaluating), evaluating.batch_size, evaluating.auto_reset) == (type(agent), 4, False)
    expected = rows(NoAutoResetGymAgent("CartPole-v1", 4, 7, role="eval"))
    for one in (evaluating, evaluating.clone(), pickle.loads(pickle.dumps(evaluating))):
        found = rows(one)
        assert all(found[name].equal(expected[name]) for name in expected.keys())  # noqa: SIM118
        assert kind == 0 or found["bonus"].shape == (60, 4)
    assert (agent.batch_size, agent.auto_reset) == (2, True)


def test_parts_of_a_batch_have_the_class_and_its_size() -> None:
    agent = Counting("CartPole-v1", 4, 0.5, seed=3)
    whole = rows(agent)
    part = pickle.loads(pickle.dumps(agent.for_slice(BatchSlice(1, 2, 4))))
    assert type(part) is Counting
    actions = [[values[1:3] for values in row] for row in random_actions(agent.env_spec, 60)]
    found = played(part, Workspace(), actions)
    assert all(found[name].equal(whole[name][:, 1:3]) for name in found.keys())  # noqa: SIM118


def test_a_seed_that_was_set_later_and_parameters_that_were_changed_are_copied() -> None:
    agent = Deeper()
    agent.seed(8)
    with torch.no_grad():
        agent.scale.fill_(3.0)
    expected = rows(Counting("CartPole-v1", 2, 0.5, seed=8))
    for copied in (agent.clone(), pickle.loads(pickle.dumps(agent)), agent.for_evaluation(2, 8, "eval")):
        found = rows(copied)
        assert found["bonus"].equal(3 * expected["bonus"])
        assert copied.auto_reset is False or found["env/env_obs"].equal(expected["env/env_obs"])


def test_a_module_among_the_arguments_is_copied_with_the_agent_around_it() -> None:
    class Judged(AutoResetGymAgent):
        def __init__(self, judge: torch.nn.Module) -> None:
            super().__init__("CartPole-v1", 2)
            self.judge = judge

    graph = TemporalAgent(
        Agents(Judged(torch.nn.Linear(4, 1)), RandomAgent(AutoResetGymAgent("CartPole-v1", 2).env_spec))
    )
    before = graph.agent[0].judge
    after = graph.clone().agent[0].judge
    assert after is not before
    assert after.weight.equal(before.weight)
    assert after.weight.data_ptr() != before.weight.data_ptr()


def test_the_constructor_of_a_subclass_keeps_its_signature() -> None:
    import inspect

    assert list(inspect.signature(OfTask).parameters) == ["task"]
    assert list(inspect.signature(AutoResetGymAgent).parameters)[:3] == ["env", "batch_size", "seed"]
