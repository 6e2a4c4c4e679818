"""Every kind of space: what is recorded is what was shown, what the environment gets is what was chosen."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from toy_envs import Counting, DictNoise, Sampling

from bbrl_exp.agents import Agent, Agents
from bbrl_exp.agents.graph_check import check_graph
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.envs.spec import SpaceMismatchError
from bbrl_exp.errors import ConfigurationError, GraphError, NonFiniteError
from bbrl_exp.workspace import Workspace

NESTED = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (2, 3, 1), np.uint8),
        "body": spaces.Tuple((spaces.Box(-1, 1, (2,), np.float64), spaces.Discrete(4, start=5))),
    }
)


def acting(agent, actions, n_steps=2):
    """Runs with the same action leaves at every step and returns the workspace."""
    workspace = Workspace()
    for t in range(n_steps):
        agent(workspace, t=t)
        for name, value in actions.items():
            workspace.set(name, t, value)
    return workspace


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (spaces.Box(-1, 1, (3,), np.float32), torch.float32),
        (spaces.Box(-1, 1, (2, 2), np.float64), torch.float64),
        (spaces.Box(-1, 1, (), np.float32), torch.float32),
        (spaces.Box(0, 255, (2, 3, 3), np.uint8), torch.uint8),
        (spaces.Box(-128, 127, (4,), np.int8), torch.int8),
        (spaces.Discrete(7), torch.int64),
        (spaces.Discrete(7, start=5), torch.int64),
        (spaces.MultiDiscrete([3, 4]), torch.int64),
        (spaces.MultiBinary(5), torch.int8),
        (spaces.MultiBinary((2, 2)), torch.int8),
    ],
    ids=str,
)
def test_an_observation_is_recorded_in_the_shape_and_dtype_of_its_space(space, dtype):
    agent = AutoResetGymAgent(lambda: Sampling(space, end_rate=0.1), 2)
    workspace = acting(agent, {"action": torch.zeros(2, dtype=torch.int64)}, n_steps=20)
    recorded = workspace["env/env_obs"]
    assert recorded.dtype == dtype
    assert recorded.shape == (20, 2, *(space.shape or ()))
    for i, env in enumerate(agent.envs):
        np.testing.assert_array_equal(recorded[:, i].numpy(), np.stack(env.shown))


def test_a_nested_observation_has_one_variable_a_leaf():
    agent = AutoResetGymAgent(lambda: Sampling(NESTED, end_rate=0.1), 2)
    workspace = acting(agent, {"action": torch.zeros(2, dtype=torch.int64)}, n_steps=12)
    for i, env in enumerate(agent.envs):
        for name, values in {
            "env/env_obs/camera": [shown["camera"] for shown in env.shown],
            "env/env_obs/body/0": [shown["body"][0] for shown in env.shown],
            "env/env_obs/body/1": [shown["body"][1] for shown in env.shown],
        }.items():
            np.testing.assert_array_equal(workspace[name][:, i].numpy(), np.stack(values))
    assert [leaf.name for leaf in agent.env_spec.observations] == sorted(
        ["env/env_obs/body/0", "env/env_obs/body/1", "env/env_obs/camera"]
    )


@pytest.mark.parametrize(
    ("space", "chosen", "given"),
    [
        (spaces.Discrete(3), torch.tensor([2, 0]), 2),
        (spaces.Discrete(3, start=5), torch.tensor([7, 5]), 7),
        (spaces.MultiDiscrete([3, 4]), torch.tensor([[2, 3], [0, 0]]), np.array([2, 3])),
        (spaces.MultiBinary(2), torch.tensor([[True, False], [True, True]]), np.array([1, 0], np.int8)),
        (spaces.Box(-2, 2, (2,), np.float32), torch.tensor([[1.5, -1.0], [0, 0]]), np.array([1.5, -1], np.float32)),
        (spaces.Box(0, 9, (1,), np.int32), torch.tensor([[4], [5]]), np.array([4], np.int32)),
    ],
    ids=str,
)
def test_an_environment_gets_the_action_that_was_chosen_in_the_dtype_of_its_space(space, chosen, given):
    agent = AutoResetGymAgent(lambda: Sampling(spaces.Discrete(2), space), 2)
    acting(agent, {"action": chosen})
    found = agent.envs[0].actions[0]
    np.testing.assert_array_equal(found, given)
    assert type(found) is type(given)
    assert getattr(found, "dtype", None) == getattr(given, "dtype", None)
    assert agent.envs[0].action_space.contains(found)


def test_a_nested_action_is_built_from_its_leaves():
    agent = AutoResetGymAgent(lambda: Sampling(spaces.Discrete(2), NESTED), 1)
    leaves = {
        "action/camera": torch.full((1, 2, 3, 1), 7, dtype=torch.uint8),
        "action/body/0": torch.tensor([[0.5, -0.5]], dtype=torch.float64),
        "action/body/1": torch.tensor([6]),
    }
    assert set(agent.reads) == set(leaves)
    acting(agent, leaves)
    given = agent.envs[0].actions[0]
    assert NESTED.contains(given | {"body": (given["body"][0], np.int64(given["body"][1]))})
    assert given["body"][1] == 6


def test_the_environment_gets_clipped_actions_and_the_workspace_keeps_them_as_chosen():
    box = spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, 2], np.float32))
    agent = AutoResetGymAgent(lambda: Sampling(spaces.Discrete(2), box), 1)
    chosen = torch.tensor([[-7.0, 9.0]])
    workspace = acting(agent, {"action": chosen})
    np.testing.assert_array_equal(agent.envs[0].actions[0], [-1, 2])
    assert workspace["action"][0].equal(chosen)
    unclipped = AutoResetGymAgent(lambda: Sampling(spaces.Discrete(2), box), 1, clip_actions=False)
    acting(unclipped, {"action": chosen})
    np.testing.assert_array_equal(unclipped.envs[0].actions[0], [-7, 9])


@pytest.mark.parametrize("clip_actions", [True, False])
def test_an_environment_may_keep_the_action_that_it_was_given(clip_actions):
    box = spaces.Box(-9, 9, (1,), np.float32)
    agent = AutoResetGymAgent(lambda: Sampling(spaces.Discrete(2), box), 1, clip_actions=clip_actions)
    workspace = Workspace()
    for t in range(4):
        agent(workspace, t=t)
        workspace.set("action", t, torch.full((1, 1), float(t)))
    workspace.copy_n_last_steps(1)
    workspace.set("action", 0, torch.full((1, 1), -1.0))
    assert [action.item() for action in agent.envs[0].actions] == [0, 1, 2]


@pytest.mark.parametrize(
    ("space", "chosen", "message"),
    [
        (spaces.Discrete(3), torch.tensor([0, 3]), "environment 1 expects 0 … 2, found 3"),
        (spaces.Discrete(3, start=5), torch.tensor([4, 5]), "environment 0 expects 5 … 7, found 4"),
        (spaces.Discrete(3), torch.tensor([[0], [1]]), r"expect int64 \[2\], found int64 \[2, 1\]"),
        (spaces.Discrete(3), torch.tensor([0.0, 1.0]), r"expect int64 \[2\], found float32 \[2\]"),
        (spaces.Discrete(3), torch.tensor([0.0, 1.0], dtype=torch.bfloat16), "BFloat16"),
        (spaces.MultiDiscrete([3, 4]), torch.tensor([[0, 3], [1, 4]]), "environment 1 expects 0 … 3, found 4"),
        (spaces.MultiBinary(2), torch.tensor([[0, 1], [300, 0]]), "environment 1 expects 0 … 1, found 300"),
        (spaces.Box(-1, 1, (2,)), torch.zeros(2), r"expect float32 \[2, 2\], found float32 \[2\]"),
        (spaces.Box(0, 9, (1,), np.int32), torch.zeros(2, 1), r"expect int32 \[2, 1\], found float32"),
    ],
    ids=str,
)
def test_an_action_outside_of_its_space_is_refused(space, chosen, message):
    agent = AutoResetGymAgent(lambda: Sampling(spaces.Discrete(2), space), 2)
    with pytest.raises(SpaceMismatchError, match=message):
        acting(agent, {"action": chosen})


def test_an_action_that_is_not_finite_names_environment_and_time():
    agent = AutoResetGymAgent(lambda: Sampling(spaces.Discrete(2), spaces.Box(-1, 1, (2,))), 2)
    with pytest.raises(NonFiniteError, match="'action' from environment 1 at t=0: nan"):
        acting(agent, {"action": torch.tensor([[0, 0], [0, float("nan")]])})


def test_an_action_with_gradients_is_read():
    agent = AutoResetGymAgent(lambda: Sampling(spaces.Discrete(2), spaces.Box(-1, 1, (1,))), 1)
    acting(agent, {"action": torch.full((1, 1), 0.25, requires_grad=True)})
    assert agent.envs[0].actions[0] == 0.25


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Discrete(2), None),
        spaces.OneOf([spaces.Discrete(2)]),
        spaces.Dict({}),
    ],
    ids=lambda space: type(space).__name__,
)
def test_a_space_without_fixed_tensors_is_refused(space):
    with pytest.raises(ConfigurationError, match="env/env_obs"):
        AutoResetGymAgent(lambda: Sampling(space), 1)


class Choosing(Agent):
    """Writes a fixed action."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, t, **kwargs):
        self.set(("action", t), self.value)


def test_the_graph_check_shows_all_variables_and_steps_no_environment():
    env = AutoResetGymAgent(Counting, 2, name="env")
    table = {row.name: row for row in check_graph(Agents(env, Choosing(torch.zeros(2, dtype=torch.int64))))}
    assert table["env/env_obs"].shape == (2, 1)
    assert table["action"].readers == ("env",)
    assert set(env.writes) == set(table) - {"action"}
    assert [toy.episode for toy in env.envs] == [-1, -1]


@pytest.mark.parametrize("value", [torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2)])
def test_the_graph_check_refuses_actions_that_the_environments_would_refuse(value):
    with pytest.raises(GraphError, match="'action' at t=0: the environments expect int64"):
        check_graph(Agents(AutoResetGymAgent(Counting, 2), Choosing(value)))


def test_rows_that_are_staged_for_another_device_equal_those_written_directly(monkeypatch):
    from bbrl_exp.envs import gym_agents
    from bbrl_exp.envs.staging import StagedRows, packed_to_host

    actions = {"action/move": torch.tensor([[0.5, -2.0]] * 3), "action/grip": torch.tensor([5, 6, 7])}
    direct = acting(AutoResetGymAgent(DictNoise, 3, info_keys=["luck"]), actions, n_steps=50)
    monkeypatch.setattr(
        gym_agents.GymAgent, "_open_sink", lambda self, w: StagedRows(w, self._layout, torch.device("cpu"))
    )
    monkeypatch.setattr(
        gym_agents.GymAgent, "read_rows", lambda self, t, names: packed_to_host([self.get((n, t)) for n in names])
    )
    staged = acting(AutoResetGymAgent(DictNoise, 3, info_keys=["luck"]), actions, n_steps=50)
    assert list(direct.keys()) == list(staged.keys())
    for name in list(direct.keys()):
        assert direct[name].equal(staged[name]), name


def test_a_copy_has_environments_of_its_own_that_begin_from_the_seed():
    agent = AutoResetGymAgent("CartPole-v1", 2, seed=3, name="env")
    action = {"action": torch.zeros(2, dtype=torch.int64)}
    first = acting(agent, action, n_steps=5)
    for other in (copy.deepcopy(agent), agent.clone()):
        assert other.name == "env"
        assert other.envs[0] is not agent.envs[0]
        assert acting(other, action, n_steps=5)["env/env_obs"].equal(first["env/env_obs"])
