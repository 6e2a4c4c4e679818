"""Acrobot as arrays (Sutton, 1996), with the equations and the constants of gymnasium."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.arrays.gym_task import GymTask, either
from bbrl_exp.errors import ConfigurationError

_G = 9.8
_TURNS = 2


def _begin(random: Any, p: Any, state: Any) -> None:
    for i in range(4):
        state[i] = np.float32(-0.1 + 0.2 * random[i])


def _rates(first: float, second: float, speed: float, second_speed: float, torque: float, p: Any) -> Any:
    """The accelerations of both links."""
    m1, m2, l1, c1, c2, moment, square = p[0], p[1], p[2], p[3], p[4], p[5], p[11]
    cosine, sine = math.cos(second), math.sin(second)
    d1 = m1 * (c1 * c1) + m2 * (l1 * l1 + c2 * c2 + 2 * l1 * c2 * cosine) + moment + moment
    d2 = m2 * (c2 * c2 + l1 * c2 * cosine) + moment
    phi2 = m2 * c2 * _G * math.cos(first + second - math.pi / 2.0)
    phi1 = (
        -m2 * l1 * c2 * math.pow(second_speed, square) * sine
        - 2 * m2 * l1 * c2 * second_speed * speed * sine
        + (m1 * c1 + m2 * l1) * _G * math.cos(first - math.pi / 2)
        + phi2
    )
    inertia = m2 * (c2 * c2) + moment - math.pow(d2, square) / d1
    if p[12] != 0.0:  # "nips"
        second_change = (torque + d2 / d1 * phi1 - phi2) / inertia
    else:
        second_change = (torque + d2 / d1 * phi1 - m2 * l1 * c2 * math.pow(speed, square) * sine - phi2) / inertia
    return -(d2 * second_change + phi1) / d1, second_change


def _wrapped(angle: float) -> float:
    while angle > math.pi:
        angle = angle - 2 * math.pi
    while angle < -math.pi:
        angle = angle + 2 * math.pi
    return angle


def _advance(state: Any, action: Any, p: Any) -> tuple[float, bool]:
    torque, tau = p[8 + action], p[13]
    half = tau / 2.0
    a, b, c, d = state[0], state[1], state[2], state[3]
    # Runge and Kutta's method; the rate of change of an angle is its speed.
    c1, d1 = _rates(a, b, c, d, torque, p)
    a2, b2 = c + half * c1, d + half * d1
    c2, d2 = _rates(a + half * c, b + half * d, a2, b2, torque, p)
    a3, b3 = c + half * c2, d + half * d2
    c3, d3 = _rates(a + half * a2, b + half * b2, a3, b3, torque, p)
    a4, b4 = c + tau * c3, d + tau * d3
    c4, d4 = _rates(a + tau * a3, b + tau * b3, a4, b4, torque, p)
    sixth = tau / 6.0
    a = _wrapped(a + sixth * (c + 2 * a2 + 2 * a3 + a4))
    b = _wrapped(b + sixth * (d + 2 * b2 + 2 * b3 + b4))
    state[2] = min(max(c + sixth * (c1 + 2 * c2 + 2 * c3 + c4), -p[6]), p[6])
    state[3] = min(max(d + sixth * (d1 + 2 * d2 + 2 * d3 + d4), -p[7]), p[7])
    state[0], state[1] = a, b
    is_over = -math.cos(a) - math.cos(b + a) > 1.0
    return 0.0 if is_over else -1.0, is_over


def _observe(state: Any, p: Any, observation: Any) -> None:
    observation[0], observation[1] = math.cos(state[0]), math.sin(state[0])
    observation[2], observation[3] = math.cos(state[1]), math.sin(state[1])
    observation[4], observation[5] = state[2], state[3]


class Acrobot(GymTask):
    """``Acrobot-v1`` and whatever else gymnasium registers its class as. The state is two angles and their speeds."""

    n_state, n_random = 4, 4
    begin_row, advance_row, observe_row = staticmethod(_begin), staticmethod(_advance), staticmethod(_observe)

    @classmethod
    def constants(cls, env: Any) -> list[float]:
        """Masses, lengths, limits of the speeds, the torques of the three actions, 2, and the time step.

        The 2 is an exponent: as a constant, the compiler would multiply instead, and round otherwise than gymnasium.
        """
        if env.torque_noise_max:
            raise ConfigurationError(f"torque_noise_max={env.torque_noise_max}: must be 0 with array environments")
        masses = [env.LINK_MASS_1, env.LINK_MASS_2, env.LINK_LENGTH_1, env.LINK_COM_POS_1, env.LINK_COM_POS_2]
        speeds = [env.MAX_VEL_1, env.MAX_VEL_2]
        is_nips = env.book_or_nips == "nips"
        return [*masses, env.LINK_MOI, *speeds, *env.AVAIL_TORQUE, 2.0, is_nips, env.dt]

    def begin(self, random: Tensor) -> Tensor:
        """Angles and speeds within 0.1 of 0, float32."""
        return (-0.1 + 0.2 * random).float().double()

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A step of Runge and Kutta's method."""
        torques = torch.tensor(self.numbers[8:11], dtype=torch.float64, device=state.device)
        torque, tau = torques[action], self.numbers[13]
        rates = self._rates_of(state, torque)
        second = self._rates_of(state + tau / 2.0 * rates, torque)
        third = self._rates_of(state + tau / 2.0 * second, torque)
        fourth = self._rates_of(state + tau * third, torque)
        moved = state + tau / 6.0 * (rates + 2 * second + 2 * third + fourth)
        angles, speeds = moved[:, :2], moved[:, 2:]
        for _ in range(_TURNS):  # a speed is at most 9π, so that in a step of 0.2 an angle changes by less than that
            angles = torch.where(angles > math.pi, angles - 2 * math.pi, angles)
            angles = torch.where(angles < -math.pi, angles + 2 * math.pi, angles)
        one, other = (speeds[:, i].clamp(-self.numbers[6 + i], self.numbers[6 + i]) for i in range(2))
        is_over = -angles[:, 0].cos() - (angles[:, 1] + angles[:, 0]).cos() > 1.0
        return torch.stack([*angles.unbind(-1), one, other], dim=-1), either(is_over, 0.0, -1.0), is_over

    def observe(self, state: Tensor) -> Tensor:
        """Cosine and sine of each angle, and the speeds."""
        first, second, speed, second_speed = state.unbind(-1)
        return torch.stack([first.cos(), first.sin(), second.cos(), second.sin(), speed, second_speed], dim=-1)

    def show_state(self, env: Any, state: NDArray[np.float64]) -> None:
        """See :class:`~bbrl_exp.envs.arrays.gym_task.GymTask`."""
        env.state = state.copy()

    def _rates_of(self, state: Tensor, torque: Tensor) -> Tensor:
        """The rates of change of states, ``[B, 4]``."""
        m1, m2, l1, c1, c2, moment, *_ = self.numbers
        first, second, speed, second_speed = state.unbind(-1)
        cosine, sine = second.cos(), second.sin()
        d1 = m1 * c1**2 + m2 * (l1**2 + c2**2 + 2 * l1 * c2 * cosine) + moment + moment
        d2 = m2 * (c2**2 + l1 * c2 * cosine) + moment
        phi2 = m2 * c2 * _G * (first + second - math.pi / 2.0).cos()
        phi1 = (
            -m2 * l1 * c2 * second_speed**2 * sine
            - 2 * m2 * l1 * c2 * second_speed * speed * sine
            + (m1 * c1 + m2 * l1) * _G * (first - math.pi / 2).cos()
            + phi2
        )
        pulled = 0.0 if self.numbers[12] else m2 * l1 * c2 * speed**2 * sine
        second_change = (torque + d2 / d1 * phi1 - pulled - phi2) / (m2 * c2**2 + moment - d2**2 / d1)
        return torch.stack([speed, second_speed, -(d2 * second_change + phi1) / d1, second_change], dim=-1)
