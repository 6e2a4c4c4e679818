"""Evaluation: complete episodes, the same ones each time, and nothing else changed by it."""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from bbrl_exp.agents import Agent, Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent, NoAutoResetGymAgent
from bbrl_exp.errors import BbrlExpError
from bbrl_exp.seeding import EpisodeSeeds
from bbrl_exp.training.evaluation import Evaluator

EPISODES, SEED, ROLE = 5, 3, "eval"


class Alternate(Agent):
    """Pushes to the left, to the right, … whatever it sees."""

    def forward(self, t: int, **kwargs: Any) -> None:
        timestep = self.get(("env/timestep", t))
        assert not self.training
        self.set(("action", t), timestep % 2)


def evaluator() -> Evaluator:
    environments = NoAutoResetGymAgent("CartPole-v1", EPISODES, SEED, role=ROLE, name="env")
    return Evaluator(TemporalAgent(Agents(environments, Alternate())), SEED, policy_seed=0)


def played_by_hand() -> list[float]:
    returns = []
    for index in range(EPISODES):
        env = gymnasium.make("CartPole-v1")
        env.reset(seed=EpisodeSeeds(SEED, ROLE, index)(0))
        total, is_over, step = 0.0, False, 0
        while not is_over:
            _, reward, terminated, truncated, _ = env.step(step % 2)
            total, is_over, step = total + float(reward), terminated or truncated, step + 1
        env.close()
        returns.append(total)
    return returns


def test_every_environment_plays_one_whole_episode_of_the_list_each_time() -> None:
    one = evaluator()
    first, second = one.run(), one.run()
    one.close()
    assert first is not None
    assert first == second
    assert list(first.returns) == played_by_hand()
    assert [float(n) for n in first.lengths] == list(first.returns)
    assert first.return_mean == pytest.approx(np.mean(first.returns))
    assert first.return_std == pytest.approx(np.std(first.returns))
    assert first.n_cut == 0


def test_global_generators_are_left_where_they_were() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    one = evaluator()

    def draw() -> None:
        torch.rand(1), random.random(), np.random.rand()

    one.run(after_step=draw)
    one.close()
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    assert before == after


def test_an_evaluation_that_is_asked_to_stop_gives_nothing() -> None:
    one = evaluator()
    seen: list[int] = []
    assert one.run(lambda: True, lambda: seen.append(1)) is None
    assert seen == [1]
    one.close()


def test_environments_that_reset_themselves_are_refused() -> None:
    environments = AutoResetGymAgent("CartPole-v1", 1)
    with pytest.raises(BbrlExpError, match="without automatic reset"):
        Evaluator(TemporalAgent(Agents(environments, Alternate())), 0, 0)
    environments.close()
