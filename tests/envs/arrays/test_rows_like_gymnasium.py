"""Array environments show, for the same states and actions, the rows that gymnasium's own environments show."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from bbrl_exp.envs.arrays.backends import ArrayBackend
from bbrl_exp.envs.checks import played, random_actions
from bbrl_exp.envs.contract import check_environment_agent
from bbrl_exp.workspace import Workspace

N_STEPS = 700
CASES: dict[str, dict[str, Any]] = {
    "Acrobot-v1": {},
    "CartPole-v1": {},
    "MountainCar-v0": {},
    "MountainCarContinuous-v0": {"max_episode_steps": 300},
    "Pendulum-v1": {},
    "bbrl_exp/TMaze-v0": {"corridor_length": 3},
}


@pytest.mark.parametrize("env_id", CASES)
def test_the_contract_is_kept(env_id: str) -> None:
    check_environment_agent(lambda size, seed: ArrayBackend(env_id, size, seed, kwargs=CASES[env_id]), N_STEPS)


@pytest.mark.parametrize("env_id", CASES)
def test_rows_are_those_of_gymnasium_bit_for_bit(env_id: str) -> None:
    agent = ArrayBackend(env_id, 4, seed=3, kwargs=CASES[env_id])
    env = gymnasium.make(env_id, **CASES[env_id])
    actions = random_actions(agent.env_spec, N_STEPS)
    workspace, states = Workspace(), []
    for t in range(N_STEPS):
        played(agent, workspace, actions[t : t + 1])
        states.append(agent.run_state()["states"].numpy())
    rows = {name: workspace[f"env/{name}"].numpy() for name in ("env_obs", "reward", "terminated", "truncated")}
    for i in range(4):
        for t in range(N_STEPS):
            if workspace["env/initial_state"][t, i]:
                env.reset(seed=0)
                agent.task.show_state(env.unwrapped, states[t][i])
                continue
            shown = env.step(actions[t - 1][0][i].numpy())[:4]
            for name, expected in zip(rows, shown, strict=True):
                np.testing.assert_array_equal(rows[name][t, i], np.asarray(expected, rows[name].dtype), f"{name} {t}")
    assert bool(workspace["env/done"].any())
