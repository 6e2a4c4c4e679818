"""The environment agents of 2022: their constructors, and the two places of the reward."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import pytest
import torch
from bbrl import get_arguments, get_class
from bbrl.agents import Agent, Agents, TemporalAgent, gyma, gymb
from bbrl.workspace import Workspace
from gymnasium.spaces import Box, Discrete

from bbrl_exp.errors import ConfigurationError


class Countdown(gymnasium.Env[Any, Any]):
    """Three steps with the rewards 1, 2 and 3."""

    observation_space: ClassVar[Any] = Box(0, 3, (1,))
    action_space: ClassVar[Any] = Discrete(2)

    def __init__(self, first: float = 1.0) -> None:
        self.first = first

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.n = 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n += 1
        return self._seen(), self.first + self.n - 1, self.n == 3, False, {}

    def _seen(self) -> Any:
        return torch.tensor([float(self.n)]).numpy()


def make_gym_env(env_name: str) -> Any:
    return gymnasium.make(env_name)


class Nothing(Agent):
    def forward(self, t: int, **kwargs: Any) -> None:
        self.set(("action", t), torch.zeros(len(self.get(("env/env_obs", t))), dtype=torch.int64))


def rewards_of(agent: Any, n_steps: int) -> list[float]:
    workspace = Workspace()
    TemporalAgent(Agents(agent, Nothing()))(workspace, t=0, n_steps=n_steps)
    return workspace["env/reward"][:, 0].tolist()


def test_environments_are_made_by_a_function_and_its_arguments() -> None:
    settings = {"classname": f"{__name__}.make_gym_env", "env_name": "CartPole-v1"}
    agent = gyma.AutoResetGymAgent(get_class(settings), get_arguments(settings), 3, 12)
    assert (agent.n_envs, agent.get_obs_and_actions_sizes()) == (3, (4, 2))
    assert agent.auto_reset
    other = gyma.NoAutoResetGymAgent(get_class(settings), get_arguments(settings), n_envs=2).seed(12)
    assert not other.auto_reset
    workspace = Workspace()
    other(workspace, t=0)
    assert workspace["env/env_obs"].shape == (1, 2, 4)


def test_the_reward_of_gyma_is_in_the_next_row() -> None:
    assert rewards_of(gyma.NoAutoResetGymAgent(Countdown, {"first": 1.0}, 1, 0), 5) == [0, 1, 2, 3, 0]
    assert rewards_of(gyma.AutoResetGymAgent(Countdown, {}, 1, 0), 6) == [0, 1, 2, 3, 0, 1]


def test_the_reward_of_gymb_is_in_the_row_of_its_action_and_repeated_in_the_last() -> None:
    assert rewards_of(gymb.NoAutoResetGymAgent(Countdown, {}, 1, 0), 3) == [1, 2, 2]
    assert rewards_of(gymb.NoAutoResetGymAgent(Countdown, {}, 1, 0), 5) == [1, 2, 3, 0, 0]
    assert rewards_of(gymb.AutoResetGymAgent(Countdown, {}, 1, 0), 6) == [1, 2, 3, 3, 1, 1]


def test_a_subclass_may_set_its_spaces() -> None:
    class EnvAgent(gymb.AutoResetGymAgent):
        def __init__(self, cfg: dict[str, Any], n_envs: int) -> None:
            super().__init__(get_class(cfg), get_arguments(cfg), n_envs)
            self.observation_space = Box(0, 1, (7,))

    cfg = {"classname": f"{__name__}.make_gym_env", "env_name": "CartPole-v1"}
    assert EnvAgent(cfg, 2).get_obs_and_actions_sizes() == (7, 2)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        gyma.AutoResetGymAgent(Countdown)
    assert str(caught.value) == "AutoResetGymAgent: n_envs is missing; give make_env_fn and n_envs"
