"""``float_observations=float32``: floats are recorded as float32, however environments are stepped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from bbrl_exp.envs.checks import check_resumable, played, random_actions
from bbrl_exp.envs.contract import check_environment_agent
from bbrl_exp.envs.gym_agents import AutoResetGymAgent, GymAgent
from bbrl_exp.errors import NonFiniteError
from bbrl_exp.runs.policy import load_policy
from bbrl_exp.runs.run import run
from bbrl_exp.workspace import Workspace


class Wide(gymnasium.Env):
    """Shows floats of 64 and 16 bits, a picture and a number; the walk ends outside of [-1, 1]."""

    def __init__(self, only_the_walk: bool = False, largest: float = 1e3) -> None:
        self._only_the_walk = only_the_walk
        self._scale = largest
        walk = spaces.Box(-1e300, 1e300, (2,), np.float64)
        parts = {
            "walk": walk,
            "half": spaces.Box(0, 1, (1,), np.float16),
            "picture": spaces.Box(0, 255, (2, 2), np.uint8),
            "count": spaces.Discrete(100),
        }
        self.observation_space = walk if only_the_walk else spaces.Dict(parts)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._at, self._time = self.np_random.uniform(-0.5, 0.5), 0
        return self._shown(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._at += (action - 0.5) * self.np_random.uniform()
        self._time += 1
        return self._shown(), 1.0, abs(self._at) > 1, self._time >= 30, {}

    def _shown(self) -> Any:
        walk = np.array([self._at, self._at * self._scale])
        if self._only_the_walk:
            return walk
        return {
            "walk": walk,
            "half": np.array([abs(self._at) % 1], np.float16),
            "picture": np.full((2, 2), self._time, np.uint8),
            "count": self._time,
        }


class WideVector(SyncVectorEnv):
    metadata = {**SyncVectorEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int, max_episode_steps: int | None = None, **kwargs: Any) -> None:
        super().__init__([lambda: Wide(**kwargs)] * num_envs)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gymnasium.register("Wide-v0", entry_point=Wide, vector_entry_point=WideVector, max_episode_steps=30)
    yield
    del gymnasium.registry["Wide-v0"]


def wide(**options: Any) -> AutoResetGymAgent:
    return AutoResetGymAgent("Wide-v0", 3, seed=1, **options)


def rows(agent: GymAgent) -> Workspace:
    return played(agent, Workspace(), random_actions(agent.env_spec, 60))


@pytest.mark.parametrize("options", [{}, {"stepping": "workers", "workers": 2}, {"stepping": "vectorized"}])
def test_floats_are_recorded_as_float32_and_nothing_else_changes(options: dict[str, Any]) -> None:
    own, narrow = wide(**options), wide(float_observations="float32", **options)
    before, after = rows(own), rows(narrow)
    dtypes = {name.removeprefix("env/env_obs/"): after[name].dtype for name in after.keys() if "env_obs" in name}  # noqa: SIM118
    assert dtypes == {
        "walk": torch.float32,
        "half": torch.float32,
        "picture": torch.uint8,
        "count": torch.int64,
    }
    assert before["env/env_obs/walk"].dtype == torch.float64
    for name in before.keys():  # noqa: SIM118
        assert after[name].equal(before[name].to(after[name].dtype)), name
    (walk,) = [leaf for leaf in narrow.env_spec.observations if leaf.name.endswith("walk")]
    assert (walk.dtype, walk.low.dtype, walk.high.tolist()) == ("float32", np.float32, [np.inf, np.inf])
    own.close()
    narrow.close()


def test_copies_and_evaluations_record_float32_and_the_contract_is_kept() -> None:
    agent = wide(float_observations="float32")
    for other in (agent.clone(), agent.for_evaluation(2, 5, "eval")):
        assert rows(other)["env/env_obs/walk"].dtype == torch.float32
    check_environment_agent(lambda size, seed: AutoResetGymAgent("Wide-v0", size, seed, float_observations="float32"))
    check_resumable(lambda: wide(float_observations="float32"))


def test_a_number_that_float32_does_not_have_is_refused_where_it_is_shown() -> None:
    agent = wide(float_observations="float32", kwargs={"largest": 1e300})
    with pytest.raises(NonFiniteError, match=r"non-finite value in 'env/env_obs/walk' from environment 0 at t=0: -inf"):
        rows(agent)


def test_a_run_learns_and_its_policy_takes_observations_of_both_dtypes(tmp_path: Path) -> None:
    setting = ["agent=ppo", "env=gym", "env.id=Wide-v0", "+env.kwargs.only_the_walk=true", "tracking=none"]
    short = ["total_steps=256", "batch_size=2", "eval.every=0", "eval.final_episodes=2", f"hydra.run.dir={tmp_path}/x"]
    run([*setting, *short, "env.float_observations=float32"])
    policy = load_policy(tmp_path / "x")
    assert [leaf.dtype for leaf in policy.env_spec.observations] == ["float32"]
    observation = np.array([0.25, -0.5])
    wide_answer, _ = policy.act(observation)
    narrow_answer, _ = policy.act(observation.astype(np.float32))
    assert wide_answer == narrow_answer
