"""A copy of a policy for a part of the batch acts as the policy of the whole batch does there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from continuous import spec_of

from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs import EnvSpec
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.policies.constant import ConstantAgent
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.policies.recurrent import RecurrentPolicy
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace

BATCH_SIZE, N_STEPS = 5, 12
BOXES = spec_of(batch_size=BATCH_SIZE)
CHOICES = EnvSpec(
    "Choices-v0", BATCH_SIZE, BOXES.observations, (LeafSpec("action", "discrete", (), "int64", counts=np.array(4)),)
)


def actions(policy, part):
    workspace = Workspace()
    with torch.no_grad():
        for t in range(N_STEPS):
            rows = torch.sin(torch.arange(3.0 * BATCH_SIZE).reshape(BATCH_SIZE, 3) + 100.0 * t)
            workspace.set("env/env_obs", t, rows[part])
            workspace.set("env/initial_state", t, torch.full((len(rows[part]),), t in (0, 7)))
            policy(workspace, t=t)
    return workspace["action"]


@pytest.mark.parametrize(
    "policy",
    [
        lambda: RandomAgent(BOXES),
        lambda: ConstantAgent(CHOICES),
        lambda: StochasticPolicy(BOXES),
        lambda: RecurrentPolicy(CHOICES),
        lambda: QPolicy(CHOICES),
        lambda: DeterministicPolicy(BOXES, random_steps=20, noise_correlation=0.5),
        lambda: SquashedNormalPolicy(BOXES, random_steps=20),
    ],
)
def test_a_slice_of_the_batch_gets_the_actions_that_it_gets_in_the_whole_batch(policy):
    whole = actions(policy(), slice(0, BATCH_SIZE))
    for first, count in ((0, 2), (2, 3)):
        part = slice(first, first + count)
        copied = policy().for_slice(BatchSlice(first, count, BATCH_SIZE))
        torch.testing.assert_close(actions(copied, part), whole[:, part], rtol=1e-5, atol=1e-6)
