"""BBRL's environment agents of 2023: rows, options, seeds, sizes, refusals."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from bbrl.agents import Agent, Agents, TemporalAgent
from bbrl.agents.gymnasium import ParallelGymAgent, make_env
from bbrl.workspace import Workspace
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.wrappers import Autoreset, TransformReward

from bbrl_exp.errors import ConfigurationError


class Stairs(gymnasium.Env[Any, Any]):
    """Action 1 climbs a step, action 0 falls off the stairs; the third step is the top. Six actions at most.

    The observation is a Python integer, although the space is a box of one.
    """

    observation_space: ClassVar[Any] = Box(0, 9, (1,), int)
    action_space: ClassVar[Any] = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        self.step_number, self.n_actions = 0, 0
        return 0, {}

    def step(self, action: int) -> tuple[int, int, bool, bool, dict[str, Any]]:
        self.n_actions += 1
        self.step_number = self.step_number + 1 if action else 9
        is_over = self.step_number in (3, 9)
        return self.step_number, {3: 10, 9: -10}.get(self.step_number, -1), is_over, self.n_actions == 6, {}


class Given(Agent):
    """Does the actions that it is given, one list per environment."""

    def __init__(self, *actions: list[int]) -> None:
        super().__init__()
        self.actions = torch.tensor(actions).t()

    def forward(self, t: int, **kwargs: Any) -> None:
        self.set(("action", t), self.actions[t])


def played(make: Any, *actions: list[int], **options: Any) -> Workspace:
    agent, workspace = ParallelGymAgent(make, len(actions), **options), Workspace()
    TemporalAgent(Agents(agent, Given(*actions)))(workspace, n_steps=len(actions[0]))
    return workspace


def autoreset_stairs() -> Any:
    return gymnasium.Wrapper(Autoreset(Stairs()))


def column(workspace: Workspace, name: str, index: int = 0) -> list[float]:
    return workspace[f"env/{name}"][:, index].tolist()


def test_environments_without_autoreset_repeat_their_last_row() -> None:
    workspace = played(Stairs, [1, 1, 1, 1, 1], [0, 1, 1, 1, 1])
    assert column(workspace, "env_obs") == [0, 1, 2, 3, 3]
    assert column(workspace, "reward") == [0, -1, -1, 10, 0]
    assert column(workspace, "done") == [False, False, False, True, True]
    assert column(workspace, "cumulated_reward") == [0, -1, -2, 8, 8]
    assert column(workspace, "timestep") == [0, 1, 2, 3, 3]
    assert column(workspace, "env_obs", 1) == [0, 9, 9, 9, 9]
    assert workspace["env/reward"].dtype == torch.float32


def test_environments_with_autoreset_show_the_last_observation_and_then_the_first() -> None:
    workspace = played(autoreset_stairs, [0, 1, 1, 1, 1, 0])
    assert column(workspace, "env_obs") == [0, 9, 0, 1, 2, 3]
    assert column(workspace, "reward") == [0, -10, 0, -1, -1, 10]
    assert column(workspace, "terminated") == [False, True, False, False, False, True]
    assert column(workspace, "cumulated_reward") == [0, -10, 0, -1, -2, 8]
    assert workspace.get_transitions()["env/env_obs"].tolist() == [[0, 0, 1, 2], [9, 1, 2, 3]]


def test_without_the_last_state_an_end_shows_the_first_observation_of_the_next_episode() -> None:
    workspace = played(autoreset_stairs, [0, 1, 1, 1, 1], [1, 1, 1, 1, 0], include_last_state=False)
    assert column(workspace, "env_obs") == [0, 0, 1, 2, 0]
    assert column(workspace, "reward") == [0, -10, -1, -1, 10]
    assert column(workspace, "done") == [False, True, False, False, True]
    assert column(workspace, "cumulated_reward") == [0, -10, -1, -2, 8]
    assert column(workspace, "timestep") == [0, 1, 1, 2, 3]
    assert column(workspace, "env_obs", 1) == [0, 1, 2, 0, 1]
    assert column(workspace, "initial_state", 1) == [True, False, False, True, False]


def test_the_two_ways_of_showing_an_end_play_the_same_episodes() -> None:
    class Left(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("action", t), torch.zeros(2, dtype=torch.int64))

    recorded = []
    for with_last in (True, False):
        env = ParallelGymAgent(partial(make_env, "CartPole-v1", autoreset=True), 2, include_last_state=with_last)
        workspace = Workspace()
        TemporalAgent(Agents(env.seed(5), Left()))(workspace, n_steps=40)
        begins = workspace["env/initial_state"]
        recorded.append([workspace["env/env_obs"][begins[:, b], b][:3] for b in range(2)])
    for one, other in zip(*recorded, strict=True):
        assert torch.equal(one, other)


def test_the_reward_may_be_in_the_row_of_the_action() -> None:
    workspace = played(autoreset_stairs, [0, 1, 1, 1, 1, 0], reward_at_t=True)
    assert column(workspace, "reward") == [-10, 0, -1, -1, 10, 0]
    assert column(workspace, "cumulated_reward") == [-10, 0, -1, -2, 8, 8]


def test_a_time_limit_truncates() -> None:
    class Waiting(Stairs):
        def step(self, action: int) -> tuple[int, int, bool, bool, dict[str, Any]]:
            self.n_actions += 1
            return 0, -1, False, self.n_actions == 3, {}

    workspace = played(lambda: Autoreset(Waiting()), [1] * 5)
    assert column(workspace, "truncated") == [False, False, False, True, False]
    assert column(workspace, "terminated") == [False] * 5
    assert column(workspace, "done") == [False, False, False, True, False]


def test_variables_may_have_other_names() -> None:
    class Right(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("move", t), self.get(("world/env_obs", t)).new_ones(2))

    workspace = Workspace()
    agent = ParallelGymAgent(Stairs, 2, input_string="move", output_string="world/")
    TemporalAgent(Agents(agent, Right()))(workspace, n_steps=3)
    assert workspace["world/env_obs"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert not [name for name in workspace.variables if name.startswith("env/")]


def test_observations_are_float32_and_int64_and_pictures_stay_bytes() -> None:
    class Seen(Stairs):
        observation_space: ClassVar[Any] = Dict(
            {
                "place": Box(-1, 1, (2,), np.float64),
                "count": Box(0, 5, (1,), np.int32),
                "picture": Box(0, 255, (2, 2), np.uint8),
                "room": Discrete(4),
            }
        )

        def _seen(self) -> dict[str, Any]:
            return {name: np.asarray(space.sample()) for name, space in self.observation_space.items()}

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            return self._seen(), {}

        def step(self, action: int) -> tuple[Any, int, bool, bool, dict[str, Any]]:
            return self._seen(), *super().step(action)[1:]

    workspace = played(Seen, [1, 1], [1, 1])
    found = {
        name.removeprefix("env/env_obs/"): (workspace[name].dtype, tuple(workspace[name].shape[1:]))
        for name in workspace.variables
        if name.startswith("env/env_obs/")
    }
    assert found == {
        "place": (torch.float32, (2, 2)),
        "count": (torch.int64, (2, 1)),
        "picture": (torch.uint8, (2, 2, 2)),
        "room": (torch.int64, (2,)),
    }


@pytest.mark.parametrize(("env_id", "sizes"), [("CartPole-v1", (4, 2)), ("Pendulum-v1", (3, 1)), ("Taxi-v4", (500, 6))])
def test_sizes_of_observations_and_actions(env_id: str, sizes: tuple[int, int]) -> None:
    if env_id not in gymnasium.registry:
        pytest.skip(f"{env_id} is not registered")
    agent = ParallelGymAgent(partial(make_env, env_id), 1)
    assert agent.get_obs_and_actions_sizes() == sizes
    assert agent.is_continuous_action() == (env_id == "Pendulum-v1")
    assert agent.is_discrete_state() == (env_id == "Taxi-v4")
    assert agent.get_observation_space() == gymnasium.make(env_id).observation_space


def test_seeds_are_chained_and_decide_the_episodes() -> None:
    make = partial(make_env, env_name="CartPole-v1", autoreset=True)
    rows = []
    for agent in (
        ParallelGymAgent(make, num_envs=2).seed(7),
        ParallelGymAgent(make, 2, seed=7),
        copy.deepcopy(ParallelGymAgent(make, 2, seed=7)),
        pickle.loads(pickle.dumps(ParallelGymAgent(make, 2, seed=7))),
        ParallelGymAgent(make, 3, seed=7),
        ParallelGymAgent(make, 2).seed(8),
    ):
        workspace = Workspace()
        agent(workspace, t=0)
        rows.append(workspace["env/env_obs"][0, :2])
    assert all(torch.equal(rows[0], row) for row in rows[1:5])
    assert not torch.equal(rows[0], rows[5])


def test_options_survive_a_copy() -> None:
    agent = ParallelGymAgent(autoreset_stairs, 1, reward_at_t=True, include_last_state=False, input_string="move")
    copied = copy.deepcopy(agent)
    assert (copied.reward_at_t, copied.include_last_state, copied.reads) == (True, False, ("move",))
    assert copied.auto_reset
    assert agent.of_size(3).num_envs == 3


def test_wrappers_are_applied_in_order() -> None:
    double, one_more = (
        (lambda env: TransformReward(env, lambda r: 2 * r)),
        (lambda env: TransformReward(env, lambda r: r + 1)),
    )
    agent = ParallelGymAgent(partial(make_env, "CartPole-v1", wrappers=[double, one_more]), 1)
    workspace = Workspace()
    TemporalAgent(Agents(agent, Given([1, 1])))(workspace, n_steps=2)
    assert workspace["env/reward"].flatten().tolist() == [0, 3]


def test_environments_of_gym_are_refused_with_what_to_write() -> None:
    old = type("CartPoleEnv", (), {"__module__": "gym.envs.classic_control"})
    with pytest.raises(ConfigurationError) as caught:
        ParallelGymAgent(old, 1)
    assert str(caught.value) == (
        "CartPoleEnv: expected an environment of gymnasium, found one of gym, CartPoleEnv; replace 'import gym' by "
        "'import gymnasium as gym'"
    )


def test_pictures_are_refused_with_what_to_use() -> None:
    agent = ParallelGymAgent(Stairs, 1)
    with pytest.raises(ConfigurationError) as caught:
        agent(Workspace(), t=0, save_render=True)
    assert str(caught.value) == "save_render=True: pictures are not recorded here; use record_video"
