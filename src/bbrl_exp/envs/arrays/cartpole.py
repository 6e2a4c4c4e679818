"""CartPole as arrays (Barto, Sutton and Anderson, 1983), with the equations and the constants of gymnasium."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.envs.arrays.gym_task import GymTask, either


def _begin(random: Any, p: Any, state: Any) -> None:
    for i in range(4):
        state[i] = -0.05 + 0.1 * random[i]


def _advance(state: Any, action: Any, p: Any) -> tuple[float, bool]:
    gravity, mass_of_pole, total_mass, length, mass_times_length, strength, tau = (
        p[0],
        p[1],
        p[2],
        p[3],
        p[4],
        p[5],
        p[6],
    )
    x, x_dot, theta, theta_dot = state[0], state[1], state[2], state[3]
    force = strength if action == 1 else -strength
    cosine, sine = math.cos(theta), math.sin(theta)
    push = (force + mass_times_length * (theta_dot * theta_dot) * sine) / total_mass
    theta_acc = (gravity * sine - cosine * push) / (
        length * (4.0 / 3.0 - mass_of_pole * (cosine * cosine) / total_mass)
    )
    x_acc = push - mass_times_length * theta_acc * cosine / total_mass
    state[0] = x = x + tau * x_dot
    state[1] = x_dot + tau * x_acc
    state[2] = theta = theta + tau * theta_dot
    state[3] = theta_dot + tau * theta_acc
    is_over = x < -p[7] or x > p[7] or theta < -p[8] or theta > p[8]
    return p[10] if is_over else p[9], is_over


def _observe(state: Any, p: Any, observation: Any) -> None:
    for i in range(4):
        observation[i] = state[i]


class CartPole(GymTask):
    """``CartPole-v1`` and whatever else gymnasium registers its class as."""

    n_state, n_random = 4, 4
    begin_row, advance_row, observe_row = staticmethod(_begin), staticmethod(_advance), staticmethod(_observe)

    @classmethod
    def constants(cls, env: Any) -> list[float]:
        """What the equations read from the environment."""
        rewards = (0.0, -1.0) if env._sutton_barto_reward else (1.0, 1.0)
        return [
            env.gravity,
            env.masspole,
            env.total_mass,
            env.length,
            env.polemass_length,
            env.force_mag,
            env.tau,
            env.x_threshold,
            env.theta_threshold_radians,
            *rewards,
        ]

    def begin(self, random: Tensor) -> Tensor:
        """Position, velocity, angle and angular velocity, each within 0.05 of 0."""
        return -0.05 + 0.1 * random

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A step of Euler's method."""
        gravity, mass_of_pole, total_mass, length, mass_times_length, strength, tau, *ends = self.numbers
        x, x_dot, theta, theta_dot = state.unbind(-1)
        force = either(action == 1, strength, -strength)
        cosine, sine = theta.cos(), theta.sin()
        push = (force + mass_times_length * (theta_dot * theta_dot) * sine) / total_mass
        theta_acc = (gravity * sine - cosine * push) / (
            length * (4.0 / 3.0 - mass_of_pole * (cosine * cosine) / total_mass)
        )
        x_acc = push - mass_times_length * theta_acc * cosine / total_mass
        x, theta = x + tau * x_dot, theta + tau * theta_dot
        is_over = (x.abs() > ends[0]) | (theta.abs() > ends[1])
        moved = torch.stack([x, x_dot + tau * x_acc, theta, theta_dot + tau * theta_acc], dim=-1)
        return moved, either(is_over, ends[3], ends[2]), is_over

    def observe(self, state: Tensor) -> Tensor:
        """The state itself."""
        return state

    def show_state(self, env: Any, state: np.ndarray[Any, Any]) -> None:
        """Puts an environment of gymnasium to where ``state`` is."""
        env.state = state.copy()
