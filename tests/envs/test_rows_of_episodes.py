"""Rows of AutoReset and NoAutoReset, told by an environment that shows 100 * episode + step."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from toy_envs import Counting, Misbehaving

from bbrl_exp.envs import AutoResetGymAgent, NoAutoResetGymAgent
from bbrl_exp.envs.spec import SpaceMismatchError
from bbrl_exp.errors import BbrlExpError, ConfigurationError, NonFiniteError, WorkspaceError
from bbrl_exp.workspace import Workspace


def unroll(agent, n_steps, workspace=None, first=0, action=0):
    workspace = Workspace() if workspace is None else workspace
    for t in range(first, first + n_steps):
        agent(workspace, t=t)
        workspace.set("action", t, torch.full((agent.batch_size,), action))
    return workspace


def column(workspace, name, environment=0):
    return workspace[name][:, environment].flatten().tolist()


def test_auto_reset_shows_the_final_observation_and_then_the_first_one_of_the_next_episode():
    workspace = unroll(AutoResetGymAgent(Counting, 2), 9)
    expected = {
        "env/env_obs": [0, 1, 2, 3, 100, 101, 102, 103, 200],
        "env/reward": [0, 1, 2, 3, 0, 11, 12, 13, 0],
        "env/cumulated_reward": [0, 1, 3, 6, 0, 11, 23, 36, 0],
        "env/timestep": [0, 1, 2, 3, 0, 1, 2, 3, 0],
        "env/initial_state": [True, False, False, False, True, False, False, False, True],
        "env/terminated": [False, False, False, True, False, False, False, True, False],
        "env/truncated": [False] * 9,
        "env/done": [False, False, False, True, False, False, False, True, False],
    }
    assert {name: column(workspace, name, 1) for name in expected} == expected
    assert {name: workspace[name].dtype for name in expected} == {
        "env/env_obs": torch.float32,
        "env/reward": torch.float32,
        "env/cumulated_reward": torch.float32,
        "env/timestep": torch.int64,
        "env/initial_state": torch.bool,
        "env/terminated": torch.bool,
        "env/truncated": torch.bool,
        "env/done": torch.bool,
    }
    assert workspace["env/env_obs"].shape == (9, 2, 1)
    assert workspace["env/reward"].shape == (9, 2)


@pytest.mark.parametrize("stepping", [{}, {"workers": 2}])
def test_a_finished_environment_is_frozen_without_auto_reset(stepping):
    lengths = iter([2, 4, 2, 4])
    agent = NoAutoResetGymAgent(Counting, 2, kwargs={"ends": "truncated"}, info_keys={"count": "int64"}, **stepping)
    if not stepping:
        for env in agent.envs:
            env.length = next(lengths)
    workspace = unroll(agent, 6)
    agent.close()
    end = 3 if stepping else 2
    frozen = 6 - end - 1
    assert column(workspace, "env/env_obs") == [*range(end + 1), *[end] * frozen]
    assert column(workspace, "env/reward") == [*range(end + 1), *[0] * frozen]
    assert column(workspace, "env/timestep") == [*range(end + 1), *[end] * frozen]
    total = sum(range(end + 1))
    assert column(workspace, "env/cumulated_reward")[end:] == [total] * (frozen + 1)
    assert column(workspace, "env/done") == [False] * end + [True] * (frozen + 1)
    assert column(workspace, "env/truncated") == column(workspace, "env/done")
    assert column(workspace, "env/terminated") == [False] * 6
    assert column(workspace, "env/initial_state") == [True] + [False] * 5
    assert column(workspace, "env/info/count") == [*range(end + 1), *[end] * frozen]


def test_each_environment_freezes_on_its_own():
    agent = NoAutoResetGymAgent(Counting, 2)
    agent.envs[0].length = 1
    workspace = unroll(agent, 5)
    assert column(workspace, "env/env_obs", 0) == [0, 1, 1, 1, 1]
    assert column(workspace, "env/env_obs", 1) == [0, 1, 2, 3, 3]
    assert column(workspace, "env/terminated", 0) == [False, True, True, True, True]
    assert column(workspace, "env/cumulated_reward", 0) == [0, 1, 1, 1, 1]
    assert column(workspace, "env/reward", 1) == [0, 1, 2, 3, 0]
    assert [len(env.actions) for env in agent.envs] == [1, 3]


@pytest.mark.parametrize("kind", [AutoResetGymAgent, NoAutoResetGymAgent])
def test_terminated_and_truncated_can_both_be_true(kind):
    workspace = unroll(kind(Counting, 1, kwargs={"length": 1, "ends": "both"}), 3)
    expected = [False, True, kind is NoAutoResetGymAgent]
    for name in ("env/terminated", "env/truncated", "env/done"):
        assert column(workspace, name) == expected


def test_the_action_given_on_a_final_row_is_ignored():
    agent = AutoResetGymAgent(Counting, 1, kwargs={"length": 2})
    workspace = Workspace()
    for t in range(6):
        agent(workspace, t=t)
        workspace.set("action", t, torch.tensor([t % 3]))
    assert agent.envs[0].actions == [0, 1, 0, 1]


def test_episodes_go_on_over_chunks_and_over_recordings():
    agent = AutoResetGymAgent(Counting, 1)
    workspace = unroll(agent, 3)
    workspace.copy_n_last_steps(1)
    unroll(agent, 3, workspace, first=1)
    assert column(workspace, "env/env_obs") == [2, 3, 100, 101]
    unroll(agent, 2, workspace)
    assert column(workspace, "env/env_obs") == [200, 201]


def test_a_reset_drops_the_rows_beyond_it_of_every_variable():
    agent = AutoResetGymAgent(Counting, 1)
    workspace = unroll(agent, 5)
    agent(workspace, t=0)
    names = [*agent.writes, "action"]
    assert {name: len(workspace[name]) for name in names} == dict.fromkeys(names, 1)


def test_a_step_before_any_reset_is_refused():
    with pytest.raises(BbrlExpError, match="begin at t=0"):
        AutoResetGymAgent(Counting, 1)(Workspace(), t=1)


def test_a_step_without_an_action_names_agent_and_variable():
    agent = AutoResetGymAgent(Counting, 1, name="toy")
    workspace = Workspace()
    agent(workspace, t=0)
    with pytest.raises(WorkspaceError, match=r"toy.*action"):
        agent(workspace, t=1)


@pytest.mark.parametrize("stepping", [{}, {"workers": 1}])
@pytest.mark.parametrize(
    ("wrong", "variable", "value"),
    [
        ("nan observation", "env/env_obs", None),
        ("overflowing observation", "env/env_obs", None),
        ("infinite reward", "env/reward", float("inf")),
        ("overflowing reward", "env/reward", -1e300),
    ],
)
def test_a_number_that_is_not_finite_names_variable_environment_and_time(wrong, variable, value, stepping):
    made = []

    def second_one_misbehaves():
        made.append(wrong)
        return Misbehaving(wrong if len(made) % 2 == 0 else "nothing")

    # Workers make their environments themselves, so the count begins anew there, after one made here.
    agent = AutoResetGymAgent(second_one_misbehaves, 2, **stepping)
    with pytest.raises(NonFiniteError) as caught:
        unroll(agent, 4)
    found = caught.value
    assert (found.variable, found.t) == (variable, 2)
    assert found.environment in ((1,) if not stepping else (0, 1))
    if value is not None:
        assert found.value == value
    agent.close()


@pytest.mark.parametrize("wrong", ["wide observation", "scalar observation"])
def test_an_observation_of_another_shape_is_not_broadcast(wrong):
    with pytest.raises(
        SpaceMismatchError, match=r"env/env_obs' from environment 0, episode 0, at t=2: expected shape \(1,\)"
    ):
        unroll(AutoResetGymAgent(Misbehaving, 1, kwargs={"wrong": wrong}), 4)


def test_an_error_of_an_environment_names_environment_episode_and_time():
    with pytest.raises(RuntimeError, match="the toy broke") as caught:
        unroll(AutoResetGymAgent(Misbehaving, 1, kwargs={"wrong": "raise"}), 4)
    assert caught.value.__notes__ == ["in environment 0, episode 0, at t=2"]


def test_nothing_is_recorded_of_a_step_that_failed():
    agent = AutoResetGymAgent(Misbehaving, 1, kwargs={"wrong": "raise"})
    workspace = Workspace()
    with pytest.raises(RuntimeError):
        unroll(agent, 4, workspace)
    assert {name: len(workspace[name]) for name in agent.writes} == dict.fromkeys(agent.writes, 2)
    with pytest.raises(BbrlExpError, match="begin at t=0"):
        agent(workspace, t=2)


def test_chosen_infos_are_recorded_and_missing_ones_are_zero():
    info_keys = {"success": "bool", "count": "int64", "absent": "float32"}
    said = "given no 'absent' in its first episode, so that 0 is recorded; its last info has count, success"
    with pytest.warns(UserWarning, match=said) as warned:
        workspace = unroll(AutoResetGymAgent(Counting, 1, info_keys=info_keys), 9)
    assert len(warned) == 1
    assert column(workspace, "env/info/success")[:5] == [False, False, False, True, False]
    assert column(workspace, "env/info/count")[:5] == [0, 1, 2, 3, 0]
    assert column(workspace, "env/info/absent") == [0.0] * 9
    assert workspace["env/info/success"].dtype == torch.bool
    assert workspace["env/info/count"].dtype == torch.int64


def test_a_list_of_info_keys_means_float32():
    workspace = unroll(AutoResetGymAgent(Counting, 1, info_keys=["count"]), 2)
    assert workspace["env/info/count"].dtype == torch.float32


def test_an_info_that_is_no_number_is_refused():
    with pytest.raises(SpaceMismatchError, match="env/info/count"):
        unroll(AutoResetGymAgent(Misbehaving, 1, kwargs={"wrong": "info"}, info_keys=["count"]), 4)


@pytest.mark.parametrize("info_keys", ["success", {"success": "text"}, {"success": "complex64"}])
def test_info_keys_of_another_kind_are_refused(info_keys):
    with pytest.raises(ConfigurationError, match="info_keys"):
        AutoResetGymAgent(Counting, 1, info_keys=info_keys)


class OneArray(gymnasium.Env):
    """Shows the last action, at first 0, in an array that all environments share."""

    shared = np.zeros(2, np.float32)
    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(9)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shared[:] = 0
        return self.shared, {}

    def step(self, action):
        self.shared[:] = action
        return self.shared, 0.0, False, action == 1, {}


@pytest.mark.parametrize("kind", [AutoResetGymAgent, NoAutoResetGymAgent])
@pytest.mark.parametrize("batch_size", [2, 4, 7])
def test_environments_that_share_an_array_have_rows_of_their_own(kind, batch_size):
    agent, workspace = kind(OneArray, batch_size), Workspace()
    actions = torch.arange(batch_size)
    for t in range(3):
        agent(workspace, t=t)
        workspace.set("action", t, actions)
    assert workspace["env/env_obs"][1, :, 0].tolist() == actions.tolist()
    after_the_end = 0 if kind is AutoResetGymAgent else 1
    assert workspace["env/env_obs"][2, :, 0].tolist() == [0, after_the_end, *actions[2:].tolist()]
    shown = workspace["env/env_obs"][2].tolist()
    workspace["env/env_obs"][2] = 7.0
    resumed = kind(OneArray, batch_size)
    resumed.load_run_state(agent.run_state())
    for each in (agent, resumed):
        assert each.run_state()["kernel"]["observation"]["env/env_obs"].tolist() == shown
