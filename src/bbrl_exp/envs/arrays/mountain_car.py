"""MountainCar as arrays (Moore, 1990), with the equations and the constants of gymnasium."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.arrays.gym_task import GymTask


def _begin(random: Any, p: Any, state: Any) -> None:
    state[0], state[1] = -0.6 + 0.2 * random[0], 0.0


def _advance(state: Any, action: Any, p: Any) -> tuple[float, bool]:
    lowest, highest, speed_limit, goal, goal_speed, force, gravity = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    place, speed = state[0], state[1]
    speed = speed + ((action - 1) * force + math.cos(3 * place) * -gravity)
    speed = min(max(speed, -speed_limit), speed_limit)
    place = min(max(place + speed, lowest), highest)
    if place == lowest and speed < 0:
        speed = 0.0
    state[0], state[1] = place, speed
    return -1.0, place >= goal and speed >= goal_speed


def _observe(state: Any, p: Any, observation: Any) -> None:
    observation[0], observation[1] = state[0], state[1]


class MountainCar(GymTask):
    """``MountainCar-v0`` and whatever else gymnasium registers its class as. The state is place and speed."""

    n_state, n_random = 2, 1
    begin_row, advance_row, observe_row = staticmethod(_begin), staticmethod(_advance), staticmethod(_observe)

    @classmethod
    def constants(cls, env: Any) -> list[float]:
        """Bounds, goal, the car's force and gravity."""
        goal = [env.goal_position, env.goal_velocity]
        return [env.min_position, env.max_position, env.max_speed, *goal, env.force, env.gravity]

    def begin(self, random: Tensor) -> Tensor:
        """A place between -0.6 and -0.4, at rest."""
        return torch.cat([-0.6 + 0.2 * random, torch.zeros_like(random)], dim=-1)

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A step of the semi-implicit Euler method."""
        lowest, highest, speed_limit, goal, goal_speed, force, gravity = self.numbers
        place, speed = state.unbind(-1)
        speed = speed + ((action - 1).double() * force + (3 * place).cos() * -gravity)
        speed = speed.clamp(-speed_limit, speed_limit)
        place = (place + speed).clamp(lowest, highest)
        speed = torch.where((place == lowest) & (speed < 0), 0.0, speed)
        is_there = (place >= goal) & (speed >= goal_speed)
        return torch.stack([place, speed], dim=-1), torch.full_like(place, -1.0), is_there

    def observe(self, state: Tensor) -> Tensor:
        """The state itself."""
        return state

    def show_state(self, env: Any, state: NDArray[np.float64]) -> None:
        """See :class:`~bbrl_exp.envs.arrays.gym_task.GymTask`."""
        env.state = state.copy()
