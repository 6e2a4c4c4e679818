"""Options of the group `env` for policies with a memory show and hide what the first lines of their files say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from toy_envs import Counting, Sampling

from bbrl_exp.config.compose import Composer, resolve
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.envs.plugins import import_plugin_of
from bbrl_exp.envs.wrappers import FirstActions
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.run import build_graph
from bbrl_exp.workspace import Workspace

Seen = list[Any]


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with Composer(default_config_dir()) as composer:
        yield composer


def last(n: int) -> Callable[[Seen], int]:
    """Repeats what was seen ``n`` steps before."""
    return lambda seen: seen[-1 - n] if len(seen) > n else 0


def backwards(seen: Seen) -> int:
    """The suits of the first 52 rows, the last one first."""
    return seen[103 - len(seen)][1] if len(seen) >= 52 else 0


def counted(seen: Seen) -> int:
    """How many cards have been dealt that are of the colour asked for."""
    return sum(dealt == seen[-1][1] for dealt, _ in seen)


@pytest.mark.parametrize(
    ("option", "strategy", "n_steps"),
    [
        ("repeat_first_easy", lambda seen: seen[0], 51),
        ("repeat_first_medium", lambda seen: seen[0], 415),
        ("repeat_first_hard", lambda seen: seen[0], 831),
        ("repeat_previous_easy", last(3), 51),
        ("repeat_previous_medium", last(31), 103),
        ("repeat_previous", last(3), 51),
        ("autoencode_easy", backwards, 103),
        ("autoencode", backwards, 103),
        ("count_recall_easy", counted, 51),
        ("count_recall", counted, 51),
    ],
)
def test_who_remembers_all_earns_1_in_popgym(
    option: str, strategy: Callable[[Seen], int], n_steps: int, composer: Composer
) -> None:
    pytest.importorskip("popgym")
    env_id = resolve(composer.compose([f"env=popgym_{option}"]))["env"]["id"]
    import_plugin_of(env_id)
    env = gymnasium.make(env_id, disable_env_checker=True)
    seen, rewards, over = [env.reset(seed=0)[0]], [], False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(strategy(seen))
        seen.append(observation)
        rewards.append(float(reward))
        over = terminated or truncated
    assert (sum(rewards), len(rewards)) == (pytest.approx(1.0), n_steps)


@pytest.mark.parametrize(
    ("option", "env_id"),
    [
        ("popgym_higher_lower_easy", "popgym-HigherLowerEasy-v0"),
        ("popgym_position_only_cartpole_easy", "popgym-PositionOnlyCartPoleEasy-v0"),
        ("popgym_position_only_cartpole", "popgym-PositionOnlyCartPoleEasy-v0"),
        ("minigrid_memory_s7", "MiniGrid-MemoryS7-v0"),
        ("minigrid_memory_s9", "MiniGrid-MemoryS9-v0"),
    ],
)
def test_an_option_names_its_environment(option: str, env_id: str, composer: Composer) -> None:
    assert resolve(composer.compose([f"env={option}"]))["env"]["id"] == env_id


def rows_of(option: str, *overrides: str) -> tuple[AutoResetGymAgent, Workspace]:
    """A few steps of two environments, with random actions; after the last one they are where it has led to."""
    graph = build_graph([f"env={option}", "batch_size=2", *overrides])
    (agent,) = [module for module in graph.modules() if isinstance(module, AutoResetGymAgent)]
    workspace = Workspace()
    graph(workspace, n_steps=5)
    return agent, workspace


def test_the_masked_mountain_car_shows_its_position_alone() -> None:
    agent, workspace = rows_of("masked_mountain_car_continuous")
    states = [env.unwrapped.state for env in agent.envs]  # type: ignore[attr-defined]
    assert all(velocity != 0 for _, velocity in states)
    assert workspace["env/env_obs"][-1].tolist() == [[position] for position, _ in states]


def test_the_masked_half_cheetah_shows_its_positions_alone() -> None:
    pytest.importorskip("mujoco")
    agent, workspace = rows_of("masked_half_cheetah")
    positions = [env.unwrapped.data.qpos[1:] for env in agent.envs]  # type: ignore[attr-defined]
    assert workspace["env/env_obs"].shape == (5, 2, 8)
    assert np.array_equal(workspace["env/env_obs"][-1].numpy(), positions)


@pytest.mark.parametrize(("overrides", "n_actions"), [((), 3), (("env.wrappers.actions=null",), 7)])
def test_memory_of_minigrid_offers_three_actions_or_all(overrides: tuple[str, ...], n_actions: int) -> None:
    pytest.importorskip("minigrid")
    agent, workspace = rows_of("minigrid_memory_s7", *overrides)
    assert agent.env_spec.actions[0].counts == n_actions
    assert workspace["env/env_obs/image"].shape == (5, 2, 7, 7, 3)


def test_the_first_actions_are_the_environments_own() -> None:
    env = FirstActions(Counting(), 2)
    assert env.action_space == gymnasium.spaces.Discrete(2)
    env.reset()
    for action in (0, 1):
        env.step(action)
    assert env.unwrapped.actions == [0, 1]  # type: ignore[attr-defined]
    shifted = Sampling(gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(5, start=-2))
    assert FirstActions(shifted, 2).action_space == gymnasium.spaces.Discrete(2, start=-2)


@pytest.mark.parametrize(
    ("n_actions", "message"),
    [
        (0, "n_actions=0: must be at least 1"),
        (4, "n_actions=4: must be at most 3, the number of actions there are"),
    ],
)
def test_a_number_of_actions_that_there_are_not_is_refused(n_actions: int, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        FirstActions(Counting(), n_actions)
    assert str(refused.value) == message


def test_the_first_of_continuous_actions_are_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        FirstActions(gymnasium.make("Pendulum-v1"), 1)
    assert str(refused.value) == "FirstActions needs a Discrete action space, found Box(-2.0, 2.0, (1,), float32)"
