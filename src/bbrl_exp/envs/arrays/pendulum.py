"""Pendulum as arrays, with the equations and the constants of gymnasium."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.arrays.gym_task import GymTask


def _begin(random: Any, p: Any, state: Any) -> None:
    state[0], state[1], state[2] = math.pi * (2 * random[0] - 1), 2 * random[1] - 1, 0.0


def _advance(state: Any, action: Any, p: Any) -> tuple[float, bool]:
    speed_limit, torque_limit, tau, gravity, inertia = p[0], p[1], p[2], p[3], p[4]
    angle, speed = state[0], state[1]
    # gymnasium keeps the torque as float32, and with it the terms that are made of nothing else.
    torque = np.float32(min(max(action[0], -torque_limit), torque_limit))
    wrapped = (angle + math.pi) % (2 * math.pi) - math.pi
    costs = wrapped * wrapped + 0.1 * (speed * speed) + np.float32(0.001) * (torque * torque)
    speed = speed + (gravity * math.sin(angle) + np.float32(inertia) * torque) * tau
    speed = min(max(speed, -speed_limit), speed_limit)
    state[0], state[1], state[2] = angle + speed * tau, speed, torque
    return -costs, False


def _observe(state: Any, p: Any, observation: Any) -> None:
    observation[0], observation[1], observation[2] = math.cos(state[0]), math.sin(state[0]), state[1]


class Pendulum(GymTask):
    """``Pendulum-v1`` and whatever else gymnasium registers its class as. The state is angle, speed, last torque."""

    n_state, n_random = 3, 2
    begin_row, advance_row, observe_row = staticmethod(_begin), staticmethod(_advance), staticmethod(_observe)

    @classmethod
    def constants(cls, env: Any) -> list[float]:
        """Limits, the time step, and what gravity and a torque of 1 do to the speed."""
        pull, push = 3 * env.g / (2 * env.l), 3.0 / (env.m * env.l**2)
        return [env.max_speed, env.max_torque, env.dt, pull, push]

    def begin(self, random: Tensor) -> Tensor:
        """Any angle, a speed of at most 1."""
        angle, speed = random.unbind(-1)
        return torch.stack([math.pi * (2 * angle - 1), 2 * speed - 1, torch.zeros_like(angle)], dim=-1)

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A step of the semi-implicit Euler method."""
        speed_limit, torque_limit, tau, gravity, inertia = self.numbers
        angle, speed, _ = state.unbind(-1)
        torque = action[:, 0].float().clamp(-torque_limit, torque_limit)
        wrapped = (angle + math.pi) % (2 * math.pi) - math.pi
        costs = wrapped * wrapped + 0.1 * (speed * speed) + 0.001 * (torque * torque)
        speed = speed + (gravity * angle.sin() + inertia * torque) * tau
        speed = speed.clamp(-speed_limit, speed_limit)
        moved = torch.stack([angle + speed * tau, speed, torque.double()], dim=-1)
        return moved, -costs, torch.zeros_like(angle, dtype=torch.bool)

    def observe(self, state: Tensor) -> Tensor:
        """Cosine and sine of the angle, and the speed."""
        angle, speed, _ = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed], dim=-1)

    def show_state(self, env: Any, state: NDArray[np.float64]) -> None:
        """See :class:`~bbrl_exp.envs.arrays.gym_task.GymTask`."""
        env.state, env.last_u = state[:2].copy(), state[2] or None
