"""CartPole's equations of motion, to check what an interaction loop has recorded.

Constants and the explicit Euler step are those of Barto, Sutton & Anderson (1983) as CartPole-v1 uses them: gravity
9.8, masses 1.0 and 0.1, half-length 0.5, force 10, step 0.02 s, ends beyond 2.4 and 12 degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEP, _FORCE, _GRAVITY = 0.02, 10.0, 9.8
_POSITION_LIMIT, _ANGLE_LIMIT = 2.4, math.radians(12.0)
_POLE_MASS, _TOTAL_MASS, _HALF_LENGTH = 0.1, 1.1, 0.5


@dataclass(frozen=True)
class Recording:
    """One chunk, each array ``[T, B, …]``.

    Where ``final`` is None, reward and ends in row t are caused by the action in row t - 1, and the row after an end is
    the first one of the next episode. Otherwise they are in the row of the action that caused them, the next row is the
    first one of the next episode already, and ``final`` holds the observation that ended the episode.
    """

    obs: NDArray[np.float32]
    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    final: NDArray[np.float32] | None = None


def next_state(state: NDArray[Any], action: NDArray[np.int64]) -> NDArray[np.float64]:
    """The states ``[…, 4]`` one step after ``state`` under ``action``."""
    _, x_dot, theta, theta_dot = np.moveaxis(state.astype(np.float64), -1, 0)
    force = np.where(action == 1, _FORCE, -_FORCE)
    cos, sin = np.cos(theta), np.sin(theta)
    push = (force + _POLE_MASS * _HALF_LENGTH * theta_dot**2 * sin) / _TOTAL_MASS
    theta_acceleration = (_GRAVITY * sin - cos * push) / (
        _HALF_LENGTH * (4.0 / 3.0 - _POLE_MASS * cos**2 / _TOTAL_MASS)
    )
    x_acceleration = push - _POLE_MASS * _HALF_LENGTH * theta_acceleration * cos / _TOTAL_MASS
    change = np.stack([x_dot, x_acceleration, theta_dot, theta_acceleration], axis=-1)
    return state + _STEP * change


def check_recording(recording: Recording, name: str) -> None:
    """Fails loudly where a transition, a reward or an end of the recording is not CartPole's."""
    done = recording.terminated | recording.truncated
    expected = next_state(recording.obs[:-1], recording.action[:-1])
    if recording.final is None:
        is_transition = ~done[:-1]
        found, reward, terminated = recording.obs[1:], recording.reward[1:], recording.terminated[1:]
        first = recording.obs[1:][~is_transition]
        assert not recording.reward[1:][~is_transition].any(), f"{name}: a reset row has a reward"
    else:
        is_transition = np.ones_like(done[:-1])
        found = np.where(done[:-1, :, None], recording.final[:-1], recording.obs[1:])
        reward, terminated = recording.reward[:-1], recording.terminated[:-1]
        first = recording.obs[1:][done[:-1]]
    assert is_transition.any(), f"{name}: no transition"
    assert np.abs(found - expected)[is_transition].max() < 1e-4, f"{name}: an observation is not CartPole's"
    assert (reward[is_transition] == 1.0).all(), f"{name}: a reward is not 1"
    # Recorded in float32, a state may lie on the other side of a limit than the environment's own.
    beyond = np.maximum(np.abs(found[..., 0]) - _POSITION_LIMIT, np.abs(found[..., 2]) - _ANGLE_LIMIT)
    is_clear = is_transition & (np.abs(beyond) > 1e-6)
    assert ((beyond > 0.0) == terminated)[is_clear].all(), f"{name}: an end is not where CartPole ends"
    assert np.abs(first).max(initial=0.0) <= 0.05, f"{name}: an episode begins elsewhere"
