"""The T-maze as arrays: see :mod:`bbrl_exp.envs.t_maze`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.arrays.gym_task import GymTask, either
from bbrl_exp.envs.t_maze import AHEAD, BACK, LEFT, RIGHT


def _begin(random: Any, p: Any, state: Any) -> None:
    state[0], state[1], state[2], state[3] = 0.0, RIGHT if random[0] >= 0.5 else LEFT, 1.0, 0.0


def _advance(state: Any, action: Any, p: Any) -> tuple[float, bool]:
    before = state[0]
    state[2] = 0.0
    if before == p[0] and action in (LEFT, RIGHT):
        state[3] = 1.0 if action == state[1] else 0.0
        return state[3], True
    if action == AHEAD:
        state[0] = min(before + 1, p[0])
    elif action == BACK:
        state[0] = max(before - 1, 0.0)
    return 0.0 if state[0] > before else p[1], False


def _observe(state: Any, p: Any, observation: Any) -> None:
    cue = -1.0 if state[1] == LEFT else 1.0
    observation[0], observation[1] = cue if state[2] != 0.0 else 0.0, 1.0 if state[0] == p[0] else 0.0


def _inform(state: Any, p: Any, info: Any) -> None:
    info[0] = state[3]


class TMazeTask(GymTask):
    """``bbrl_exp/TMaze-v0``. The state is the position, the right turn, and whether it is the first row, a success."""

    n_state, n_random = 4, 1
    info = {"is_success": "bool"}  # noqa: RUF012
    begin_row, advance_row, observe_row = staticmethod(_begin), staticmethod(_advance), staticmethod(_observe)
    inform_row = staticmethod(_inform)

    @classmethod
    def constants(cls, env: Any) -> list[float]:
        """The length of the corridor, and what a step costs that does not lead ahead."""
        return [env.corridor_length, -1.0 / env.corridor_length]

    def begin(self, random: Tensor) -> Tensor:
        """At the start, with either turn."""
        turn = either(random >= 0.5, float(RIGHT), float(LEFT))
        return torch.cat([torch.zeros_like(turn), turn, torch.ones_like(turn), torch.zeros_like(turn)], dim=-1)

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step."""
        before, turn, *_ = state.unbind(-1)
        length, penalty = self.numbers
        is_turn = (before == length) & ((action == LEFT) | (action == RIGHT))
        is_success = is_turn & (action == turn)
        after = (before + (action == AHEAD).double() - (action == BACK).double()).clamp(0.0, length)
        reward = torch.where(is_turn, is_success.double(), either(after > before, 0.0, penalty))
        return torch.stack([after, turn, torch.zeros_like(turn), is_success.double()], dim=-1), reward, is_turn

    def observe(self, state: Tensor) -> Tensor:
        """The cue in the first row, and whether this is the junction."""
        position, turn, is_first, _ = state.unbind(-1)
        cue = either(turn == LEFT, -1.0, 1.0) * is_first
        return torch.stack([cue, (position == self.numbers[0]).double()], dim=-1)

    def inform(self, state: Tensor) -> Mapping[str, Tensor]:
        """Whether the episode has ended with the right turn."""
        return {"is_success": state[:, 3] != 0}

    def show_state(self, env: Any, state: NDArray[np.float64]) -> None:
        """See :class:`~bbrl_exp.envs.arrays.gym_task.GymTask`."""
        env._position, env._right_turn = int(state[0]), int(state[1])
