"""A simulator in torch whose numbers can be recognised, and others that break one rule each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp import EnvironmentAgent, EnvSpec, LeafSpec

LIMIT = 9


class Walk(EnvironmentAgent):
    """Walkers on a line that begin at one of a million places; actions 0, 1, 2 go down, stay, go up; 3 steps up end it.

    Shows where the walker is and how far it has come; the reward is the step.
    """

    def __init__(self, batch_size: int, seed: int = 0, role: str = "train", auto_reset: bool = True) -> None:
        observations = (LeafSpec.box("env/env_obs/place", (1,), 0, 2e6), LeafSpec.box("env/env_obs/way", (1,), -9, 9))
        spec = EnvSpec("Walk", batch_size, observations, (LeafSpec.discrete("action", 3),), LIMIT)
        super().__init__(spec, info={"is_success": "bool", "level": "int64"}, role=role, auto_reset=auto_reset)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        self.generator = self.new_generator(seed)

    def for_evaluation(self, batch_size: int, seed: int, role: str) -> EnvironmentAgent:
        return type(self)(batch_size, seed, role, auto_reset=False)

    def reset(self) -> None:
        self.place, self.way = self.starts(), torch.zeros(self.batch_size, 1)
        self.show_all(0)

    def step(self, t: int) -> None:
        moves = (self.get(("action", t - 1)) - 1).float()
        begins = self.get(("env/done", t - 1))[:, None]
        self.place = torch.where(begins, self.starts(), self.place + moves[:, None])
        self.way = torch.where(begins, 0.0, self.way + moves[:, None])
        self.show_all(t, moves)

    def show_all(self, t: int, reward: Tensor | None = None) -> None:
        is_there = self.way[:, 0] >= 3
        leaves = {"env/env_obs/place": self.place, "env/env_obs/way": self.way}
        self.show(t, leaves, reward, terminated=is_there, info={"is_success": is_there})

    def starts(self) -> Tensor:
        return torch.randint(10**6, (self.batch_size, 1), generator=self.generator).float()

    def run_state(self) -> dict[str, Any]:
        return {"place": self.place, "way": self.way, "generator": self.generator.get_state()}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        self.place, self.way = state["place"], state["way"]
        self.generator.set_state(state["generator"])

    def frame(self, index: int) -> NDArray[np.uint8]:
        return np.full((4, 6, 3), int(self.way[index, 0]) + 100, np.uint8)


class Forgetful(Walk):
    def load_run_state(self, state: Mapping[str, Any]) -> None:
        super().load_run_state({**state, "generator": self.new_generator(0).get_state()})


class Unseeded(Walk):
    def seed(self, seed: int) -> None:
        if not hasattr(self, "generator"):
            super().seed(seed)


class OneStream(Walk):
    def new_generator(self, seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)


class NeverFrozen(Walk):
    def for_evaluation(self, batch_size: int, seed: int, role: str) -> EnvironmentAgent:
        return type(self)(batch_size, seed, role, auto_reset=True)


class Thaws(Walk):
    """Frozen environments move on."""

    def show_all(self, t: int, reward: Tensor | None = None) -> None:
        super().show_all(t, reward)
        if not self.auto_reset:
            self.set(("env/env_obs/way", t), self.way)


class KeepsRows(Walk):
    """Leaves the rows of an earlier recording where they are."""

    def forward(self, t: int, **kwargs: Any) -> None:
        self.reset() if t == 0 else self.step(t)


class CountsWrong(Walk):
    def show_all(self, t: int, reward: Tensor | None = None) -> None:
        super().show_all(t, reward)
        self.set(("env/timestep", t), self.get(("env/timestep", t)) * 2)


class RewardsResets(Walk):
    def show_all(self, t: int, reward: Tensor | None = None) -> None:
        super().show_all(t, reward)
        self.set(("env/reward", t), torch.ones(self.batch_size))


class OneMore(Walk):
    """Its stand-in writes another row than it does itself."""

    def dry_copy(self, batch_size: int | None = None) -> Any:
        self.info = {**self.info, "more": "bool"}
        return super().dry_copy(batch_size)


class ShowsNoPicture(Walk):
    def frame(self, index: int) -> Any:
        return np.zeros((4, 6), np.float32)


class WithoutSpec(Walk):
    def __init__(self, batch_size: int) -> None:
        self.place = torch.zeros(batch_size, 1)


class AlwaysThree(Walk):
    def __init__(self, batch_size: int, seed: int = 0, role: str = "train", auto_reset: bool = True) -> None:
        super().__init__(min(batch_size, 3), seed, role, auto_reset)


class NotEvaluated(Walk):
    def for_evaluation(self, batch_size: int, seed: int, role: str) -> EnvironmentAgent:
        return EnvironmentAgent.for_evaluation(self, batch_size, seed, role)


class Leaves(Walk):
    def for_evaluation(self, batch_size: int, seed: int, role: str) -> EnvironmentAgent:
        sys.exit(0)


class NeverCloses(Walk):
    def close(self) -> None:
        raise RuntimeError("a window\nis still open")


class NoTime(Walk):
    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        spec = self.env_spec
        EnvironmentAgent.__init__(self, EnvSpec("Walk", batch_size, spec.observations, spec.actions, 0))


class RaisesItsState(Walk):
    def run_state(self) -> dict[str, Any]:
        raise OSError("no\nstate")


class LeavesWithItsState(Walk):
    def load_run_state(self, state: Mapping[str, Any]) -> None:
        sys.exit(0)


class StateOfNumpy(Walk):
    def run_state(self) -> dict[str, Any]:
        return {**super().run_state(), "best": np.float64(1)}


class PictureThatLeaves(Walk):
    def frame(self, index: int) -> NDArray[np.uint8]:
        return super().frame(index) if self.role == "train" else sys.exit(0)
