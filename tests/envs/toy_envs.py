"""Environments whose every number can be recognised, and a few that misbehave."""

from __future__ import annotations

import copy
import os
import random
import sys
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Counting(gymnasium.Env):
    """Observation 100 * episode + step, reward 10 * episode + step, and the ends one asks for."""

    action_space = spaces.Discrete(3)
    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self, length: int = 3, ends: str = "terminated") -> None:
        self.episode = -1
        self.length = length
        self.ends = ends
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.step_number = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        self.step_number += 1
        over = self.step_number == self.length
        info = {"success": over, "count": self.step_number}
        return (
            self._observation(),
            10.0 * self.episode + self.step_number,
            over and self.ends in ("terminated", "both"),
            over and self.ends in ("truncated", "both"),
            info,
        )

    def _observation(self) -> Any:
        return np.array([100 * self.episode + self.step_number], np.float32)


class Sampling(gymnasium.Env):
    """Shows a sample of any observation space and keeps the actions that it is given."""

    def __init__(self, observation_space: Any, action_space: Any = None, end_rate: float = 0.0) -> None:
        self.end_rate = end_rate
        self.observation_space = observation_space
        self.action_space = action_space or spaces.Discrete(2)
        self.actions: list[Any] = []
        self.shown: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed % 2**31 if seed is not None else None)
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        return self._show(), 0.5, False, bool(self.np_random.random() < self.end_rate), {}

    def _show(self) -> Any:
        self.shown.append(self.observation_space.sample())
        return self.shown[-1]


class DictNoise(gymnasium.Env):
    """Random Dict observations that depend on the seed and on the actions; episodes of random length."""

    observation_space = spaces.Dict(
        {"image": spaces.Box(0, 255, (2, 2), np.uint8), "pose": spaces.Box(-np.inf, np.inf, (3,), np.float64)}
    )
    action_space = spaces.Dict({"move": spaces.Box(-1, 1, (2,), np.float32), "grip": spaces.Discrete(3, start=5)})

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._show(np.zeros(3)), {"luck": float(self.np_random.random())}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        shift = np.array([*action["move"], action["grip"]], np.float64)
        ends = self.np_random.random(2) < 0.1
        return self._show(shift), float(shift.sum()), bool(ends[0]), bool(ends[1]), {"luck": self.np_random.random()}

    def _show(self, shift: Any) -> Any:
        return {
            "image": self.np_random.integers(0, 256, (2, 2), np.uint8),
            "pose": self.np_random.normal(size=3) + shift,
        }


class Misbehaving(Counting):
    """Does something wrong at its second step."""

    def __init__(self, wrong: str) -> None:
        super().__init__(length=10)
        self.wrong = wrong

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.step_number == 2:
            match self.wrong:
                case "nan observation":
                    observation = np.array([np.nan], np.float32)
                case "overflowing observation":
                    observation = np.array([1e300])
                case "infinite reward":
                    reward = float("inf")
                case "overflowing reward":
                    reward = -1e300
                case "wide observation":
                    observation = np.zeros(2, np.float32)
                case "scalar observation":
                    observation = 1.0
                case "raise":
                    raise RuntimeError("the toy broke")
                case "hang":
                    time.sleep(600)
                case "exit":
                    os._exit(7)
                case "info":
                    info["count"] = np.zeros(2)
        return observation, reward, terminated, truncated, info


class ShowsTorch(Counting):
    """Its observation is 1 if torch has been imported in its process."""

    def _observation(self) -> Any:
        return np.array([float("torch" in sys.modules)], np.float32)


class NeedsBox2D(Counting):
    """Cannot be made, like an environment whose extra is missing."""

    def __init__(self) -> None:
        raise gymnasium.error.DependencyNotInstalled('Box2D is not installed, run `pip install "gymnasium[box2d]"`')


class GlobalDice(Counting):
    """Shows numbers of the global generators of ``random``, numpy and torch, and one drawn when it was made."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def __init__(self) -> None:
        super().__init__()
        import torch

        self.torch = torch
        self.first = np.random.random()

    def _observation(self) -> Any:
        return np.array(
            [self.first, random.random(), np.random.random(), float(self.torch.rand(1))],
            np.float32,
        )


class Gives(gymnasium.Env):
    """Gives whatever it is made with, at its second step; before that, what fits."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: Any = None, fits: Any = 0, **given: Any) -> None:
        self.observation_space = spaces.Discrete(4) if space is None else space
        self.fits, self.given = fits, given

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return self.fits, {}

    def step(self, action: Any) -> tuple[Any, ...]:
        self.step_number += 1
        names = ("observation", "reward", "terminated", "truncated", "info")
        found = dict(zip(names, (self.fits, 1.0, False, False, {}), strict=True))
        return tuple((found | self.given).values()) if self.step_number == 2 else tuple(found.values())


class Exits(Counting):
    """Raises what ends a process, where it is told to."""

    def __init__(self, where: str, error: BaseException) -> None:
        self.where, self.error = where, error
        super().__init__()
        self.may_fail("constructor")

    def may_fail(self, where: str) -> None:
        if where == self.where:
            raise copy.copy(self.error)

    def reset(self, **kwargs: Any) -> Any:
        self.may_fail("reset")
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.may_fail("step")
        return super().step(action)

    def close(self) -> None:
        self.may_fail("close")


class OldGenerators(Counting):
    """Seeds a generator of the kind that takes 32 bits, as much code does."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.state = np.random.RandomState(seed)
        return super().reset(seed=seed)

    def _observation(self) -> Any:
        return self.state.normal(size=1).astype(np.float32)
