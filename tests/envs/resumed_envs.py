"""Environments whose state can be taken up by others, and environments whose state cannot."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from toy_envs import Counting, Sampling

SINGLE = "VectorWalk-v0"


class SeededSampling(Sampling):
    """Ends at random, takes several discrete actions, and changes the array that it is given."""

    def __init__(self):
        super().__init__(spaces.Box(-1, 1, (2,), np.float32), spaces.MultiDiscrete([2, 5]), end_rate=0.1)

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        observation += action
        action[:] = 0
        return observation, np.float32(0.1) * observation[0], terminated, truncated, info


class Lottery(Counting):
    """Shows what the global generator gives, from its third step on."""

    def _observation(self):
        return np.array([np.random.random() if self.step_number > 2 else 0.0], np.float32)


class Changed(Counting):
    """An environment whose episodes end earlier from the second instance on."""

    made = 0

    def __init__(self):
        Changed.made += 1
        super().__init__(length=6 if Changed.made == 1 else 2)


class VectorWalk(VectorEnv):
    """Random walks of random length, each attribute of another kind; ``kind`` adds one that cannot be saved."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int, kind: str = "plain", **kwargs: Any) -> None:
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.position = np.zeros((2, num_envs), order="F")
        self.history: dict[str, Any] = {"sums": [np.zeros(num_envs), np.float32(0.5)], "names": ("a", None)}
        self.over = np.zeros(num_envs, np.bool_)
        if kind == "object":
            self.helper = {"of": object()}
        elif kind == "view":
            self.first = self.position[0]
        self.kind = kind

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.own_generator = self.np_random
        self.position[:] = self.np_random.normal(size=self.position.shape)
        self.over = np.zeros(self.num_envs, np.bool_)
        return self.position.T.astype(np.float32), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.position += self.own_generator.normal(size=self.position.shape) + actions
        fresh = self.np_random.normal(size=self.position.shape)
        self.position[:] = np.where(self.over, fresh, self.position)
        self.history["sums"][0] += self.position[0] * self.history["sums"][1]
        terminated = (self.np_random.random(self.num_envs) < 0.2) & ~self.over
        self.over = terminated
        reward = self.history["sums"][0].copy()
        return self.position.T.astype(np.float32), reward, terminated, np.zeros_like(terminated), {}


if SINGLE not in gymnasium.registry:
    gymnasium.register(SINGLE, entry_point="resumed_envs:VectorWalk", vector_entry_point=VectorWalk)
