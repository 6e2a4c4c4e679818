"""MountainCarContinuous as arrays, with the equations and the constants of gymnasium.

Gymnasium keeps the state as float32 from the first step on, and computes in float32 where it adds to it: so does this.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.arrays.gym_task import GymTask, either

_GRAVITY = 0.0025  # a number in gymnasium's step, and not an attribute
_LARGEST_PUSH = 1.0


def _begin(random: Any, p: Any, state: Any) -> None:
    state[0], state[1], state[2] = -0.6 + 0.2 * random[0], 0.0, 1.0


def _advance(state: Any, action: Any, p: Any) -> tuple[float, bool]:
    lowest, highest, speed_limit, goal, goal_speed, power = p[0], p[1], p[2], p[3], p[4], p[5]
    push, is_first = action[0], state[2] != 0.0
    pull = _GRAVITY * math.cos(3 * state[0] if is_first else np.float32(np.float32(3) * np.float32(state[0])))
    if push < -_LARGEST_PUSH or push > _LARGEST_PUSH:
        change = min(max(np.float64(push), -_LARGEST_PUSH), _LARGEST_PUSH) * power - pull
    else:
        change = np.float64(np.float32(np.float32(push) * np.float32(power)) - np.float32(pull))
    if is_first:  # the state is still float64
        speed = min(max(state[1] + change, -speed_limit), speed_limit)
        place = min(max(state[0] + speed, lowest), highest)
        is_at_wall, is_there, is_fast = place == lowest, place >= goal, speed >= goal_speed
    else:
        limit = np.float32(speed_limit)
        slow = np.float32(min(max(np.float32(np.float32(state[1]) + np.float32(change)), -limit), limit))
        moved = np.float32(np.float32(state[0]) + slow)
        moved = np.float32(min(max(moved, np.float32(lowest)), np.float32(highest)))
        is_at_wall, is_there = moved == np.float32(lowest), moved >= np.float32(goal)
        place, speed, is_fast = np.float64(moved), np.float64(slow), slow >= np.float32(goal_speed)
    if is_at_wall and speed < 0:
        speed, is_fast = 0.0, goal_speed <= 0
    is_over = is_there and is_fast
    state[0], state[1], state[2] = np.float32(place), np.float32(speed), 0.0
    return (100.0 if is_over else 0.0) - np.float64(push) * np.float64(push) * 0.1, is_over


def _observe(state: Any, p: Any, observation: Any) -> None:
    observation[0], observation[1] = state[0], state[1]


class MountainCarContinuous(GymTask):
    """``MountainCarContinuous-v0`` and whatever else gymnasium registers its class as.

    The state is place, speed, and whether the episode has just begun.
    """

    n_state, n_random = 3, 1
    begin_row, advance_row, observe_row = staticmethod(_begin), staticmethod(_advance), staticmethod(_observe)

    @classmethod
    def constants(cls, env: Any) -> list[float]:
        """Bounds, goal, and the car's power."""
        goal = [env.goal_position, env.goal_velocity]
        return [env.min_position, env.max_position, env.max_speed, *goal, env.power]

    def begin(self, random: Tensor) -> Tensor:
        """A place between -0.6 and -0.4, at rest."""
        return torch.cat([-0.6 + 0.2 * random, torch.zeros_like(random), torch.ones_like(random)], dim=-1)

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A step of the semi-implicit Euler method."""
        lowest, highest, speed_limit, goal, goal_speed, power = self.numbers
        place, speed, first = state.unbind(-1)
        push, is_first = action[:, 0].float(), first != 0
        angle = torch.where(is_first, 3 * place, (3 * place.float()).double())
        pull = _GRAVITY * angle.cos()
        limited = push.double().clamp(-_LARGEST_PUSH, _LARGEST_PUSH)
        change = torch.where(limited == push, (push * power - pull.float()).double(), limited * power - pull)
        faster = torch.where(is_first, speed + change, (speed.float() + change.float()).double())
        faster = _clamped(faster, -speed_limit, speed_limit, is_first)
        moved = torch.where(is_first, place + faster, (place.float() + faster.float()).double())
        moved = _clamped(moved, lowest, highest, is_first)
        faster = torch.where((moved == _as_kept(lowest, is_first)) & (faster < 0), 0.0, faster)
        is_over = (moved >= _as_kept(goal, is_first)) & (faster >= _as_kept(goal_speed, is_first))
        reward = either(is_over, 100.0, 0.0) - push.double() * push.double() * 0.1
        after = torch.stack([moved.float(), faster.float(), torch.zeros_like(push)], dim=-1)
        return after.double(), reward, is_over

    def observe(self, state: Tensor) -> Tensor:
        """Place and speed."""
        return state[:, :2]

    def show_state(self, env: Any, state: NDArray[np.float64]) -> None:
        """See :class:`~bbrl_exp.envs.arrays.gym_task.GymTask`."""
        env.state = state[:2].copy() if state[2] else state[:2].astype(np.float32)


def _as_kept(number: float, is_first: Tensor) -> Tensor:
    """A constant as it is compared with the state: as float32, but for the first step."""
    exact = torch.full(is_first.shape, number, dtype=torch.float64, device=is_first.device)
    return torch.where(is_first, exact, exact.float().double())


def _clamped(values: Tensor, low: float, high: float, is_first: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(values, _as_kept(low, is_first)), _as_kept(high, is_first))
