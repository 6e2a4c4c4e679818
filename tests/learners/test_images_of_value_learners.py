"""Values of images are learned end to end, from a replay buffer that keeps them as uint8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_envs import BrightSide

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.learners.dqn import DQN
from bbrl_exp.learners.learner import Progress
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8, 3)])
def test_dqn_learns_from_frames(shape: tuple[int, ...]) -> None:
    env = AutoResetGymAgent(lambda: BrightSide(shape), 4, 0)
    policy = QPolicy(env.env_spec, (32,), layer_norm=True)
    learner = DQN(
        policy,
        learning_rate=3e-3,
        anneal_learning_rate=True,
        learning_starts=64,
        target_rate=0.1,
        final_epsilon=0.3,
    )
    workspace, total_steps = Workspace(), 1200
    for chunk in collect(
        TemporalAgent(Agents(env, policy)),
        workspace,
        total_steps=total_steps,
        batch_size=4,
        steps_per_chunk=8,
        chunks_per_recording=8,
    ):
        learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, total_steps, chunk.new_steps))
    (buffer,) = learner.replay_buffers().values()
    assert buffer.sample(4, np.random.default_rng(0)).observations[0].dtype == torch.uint8
    policy.eval()
    with torch.no_grad():
        TemporalAgent(Agents(env, policy))(workspace, t=0, n_steps=200)
    env.close()
    rewards = workspace["env/reward"][1:][~workspace["env/done"][:-1]]
    assert rewards.mean() > 0.95
