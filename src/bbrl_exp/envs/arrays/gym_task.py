"""What an array task has of the environment of gymnasium that it repeats: its spaces, its constants, its pictures."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.arrays.task import ArrayTask
from bbrl_exp.envs.make import Env, EnvRecipe, close_env
from bbrl_exp.envs.pictures import PICTURES, check_pictures, prepare_pictures
from bbrl_exp.envs.spaces import leaves_of


class GymTask(ArrayTask):
    """A task with the same rows as an environment of gymnasium.

    Args:
        recipe: how that is made.
        env: one that has been made, with no wrappers but gymnasium's own.
    """

    def __init__(self, recipe: EnvRecipe, env: Env) -> None:
        inner: Any = env.unwrapped
        (self.observation,), (self.action,) = leaves_of(recipe.name, (inner.observation_space, inner.action_space))
        self.env_id, self._recipe = recipe.name, recipe
        self.max_episode_steps = _time_limit(env)
        self.numbers = [float(number) for number in self.constants(inner)]
        self.parameters = np.array(self.numbers)
        self.frames_per_second = env.metadata.get("render_fps") or self.frames_per_second
        self._shown: Env | None = None

    @classmethod
    def constants(cls, env: Any) -> list[float]:
        """What the equations read from the environment."""
        raise NotImplementedError

    def show_state(self, env: Any, state: NDArray[np.float64]) -> None:
        """Puts an environment of gymnasium to where ``state`` is, for a picture."""
        raise NotImplementedError

    def check_frames(self) -> None:
        """See :class:`~bbrl_exp.envs.arrays.task.ArrayTask`."""
        env = self._recipe()
        try:
            check_pictures(self.env_id, env)
        finally:
            close_env(env, self.env_id)

    def frame(self, state: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The picture that gymnasium makes of this state."""
        if self._shown is None:
            prepare_pictures()
            recipe = self._recipe
            self._shown = EnvRecipe(
                recipe.name, recipe.source, {**recipe.kwargs, "render_mode": PICTURES}, recipe.wrappers
            )()
            self._shown.reset(seed=0)
        self.show_state(self._shown.unwrapped, state)
        picture: Any = self._shown.render()
        return picture  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shown": None}


def _time_limit(env: Any) -> int | None:
    """The least of the time limits of an environment, which its constructor may have, and gymnasium's maker too."""
    limits: list[int] = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env
    return min(limits, default=None)


def either(mask: Tensor, one: float, other: float) -> Tensor:
    """Float64 numbers: ``one`` where ``mask`` is true, else ``other``."""
    return torch.full(mask.shape, other, dtype=torch.float64, device=mask.device).masked_fill(mask, one)
