"""Images are learned end to end, by separate networks and by a shared trunk, in every order of dimensions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.wrappers import FrameStackObservation
from image_envs import BrightSide

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.ppo import PPO
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import SharedTrunkCritic, ValueCritic
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace


@pytest.mark.parametrize(
    ("shape", "stack", "is_shared"),
    [((1, 8, 8), 0, False), ((8, 8, 3), 0, True), ((8, 8), 2, True), ((8, 8, 3), 2, False)],
)
def test_ppo_learns_from_frames(shape: tuple[int, ...], stack: int, is_shared: bool) -> None:
    def make() -> Any:
        env = BrightSide(shape)
        return FrameStackObservation(env, stack) if stack else env

    env = AutoResetGymAgent(make, 8, 0)
    policy = StochasticPolicy(env.env_spec, hidden_sizes=[32], activation="relu")
    critic = SharedTrunkCritic(policy) if is_shared else ValueCritic(env.env_spec, hidden_sizes=[32])
    learner = PPO(policy, critic, learning_rate=3e-3)
    workspace, total_steps = Workspace(), 8 * 32 * 15
    for chunk in collect(
        TemporalAgent(Agents(env, policy)), workspace, total_steps=total_steps, batch_size=8, steps_per_chunk=32
    ):
        learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, total_steps, chunk.new_steps))
    policy.eval()
    with torch.no_grad():
        TemporalAgent(Agents(env, policy))(workspace, t=0, n_steps=100)
    env.close()
    assert workspace["env/env_obs"].dtype == torch.uint8
    rewards = workspace["env/reward"][1:][~workspace["env/done"][:-1]]
    assert rewards.mean() > 0.9
