"""The T-maze (Bakker, 2001, "Reinforcement learning with long short-term memory"): a cue, a corridor, a choice.

The reward is scaled as in the passive T-maze of Ni et al. (2023, arXiv:2307.03864): 1 for the right choice, and as much
as the length of the corridor in penalties for steps that lead nowhere.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from bbrl_exp.arguments import AT_LEAST_1
from bbrl_exp.errors import ConfigurationError

AHEAD, LEFT, RIGHT, BACK = range(4)
_CELL = 8  # pixels
_WALL, _FLOOR, _AGENT, _GOAL = (40, 40, 40), (230, 230, 230), (200, 30, 30), (40, 160, 60)


class TMaze(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A corridor that ends in a junction; the first observation, and no other, says which way to turn there.

    The agent starts ``corridor_length`` cells before the junction. Its actions are 0: ahead, 1: left, 2: right,
    3: back. It never turns around, and stays where it is if a wall is in its way. Going left or right at the junction
    ends the episode.

    The observation is float32 ``[2]``: the cue, -1 for left or 1 for right, each as likely as the other, in the first
    row of an episode and 0 in all others, also where the agent walks back to the start; and 1 at the junction, else 0.
    So the corridor looks the same everywhere, and the cue has to be remembered for ``corridor_length`` steps.

    The reward is 1 for the turn that the cue asks for and 0 for the other one; -1 / ``corridor_length`` for each other
    step that does not lead one cell ahead; else 0. ``info["is_success"]`` is true after the turn that the cue asks for.

    For every length, the return of the optimal policy is 1, after ``corridor_length + 1`` steps. That of the best
    policy without a memory is 0.5 on average, also with a stack of up to ``corridor_length`` observations: it walks
    ahead and then always turns to the same side, or to either at random.

    Args:
        corridor_length: number of steps from the start to the junction.
        render_mode: ``"rgb_array"`` for pictures, or None.

    Raises:
        ConfigurationError: a length below 1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 (as gymnasium has it)

    def __init__(self, corridor_length: int = 20, render_mode: Literal["rgb_array"] | None = None) -> None:
        if (complaint := AT_LEAST_1.complaint(corridor_length)) is not None:  # also of None: gymnasium checks no types
            raise ConfigurationError(f"corridor_length={corridor_length}: {complaint}")
        self.observation_space = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 1], np.float32))
        self.action_space = spaces.Discrete(4)
        self.render_mode = render_mode
        self.corridor_length = int(corridor_length)
        self._penalty = -1.0 / self.corridor_length
        self._right_turn = LEFT
        self._position = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begins an episode with a new cue."""
        super().reset(seed=seed)
        self._right_turn = RIGHT if self.np_random.integers(2) else LEFT
        self._position = 0
        return self._shown(cue=-1.0 if self._right_turn == LEFT else 1.0), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step; it is the time limit's wrapper that truncates."""
        is_turn = self._position == self.corridor_length and action in (LEFT, RIGHT)
        if is_turn:
            is_success = bool(action == self._right_turn)
            return self._shown(), float(is_success), True, False, {"is_success": is_success}
        before = self._position
        if action == AHEAD:
            self._position = min(before + 1, self.corridor_length)
        elif action == BACK:
            self._position = max(before - 1, 0)
        reward = 0.0 if self._position > before else self._penalty
        return self._shown(), reward, False, False, {"is_success": False}

    def render(self) -> NDArray[np.uint8] | None:
        """The maze from above, ``[5 * 8, (corridor_length + 3) * 8, 3]``: the agent in red, the goal in green."""
        if self.render_mode is None:
            return None
        cells = np.full((5, self.corridor_length + 3, 3), _WALL, np.uint8)
        cells[2, 1:-1] = cells[1:4, -2] = _FLOOR
        cells[1 if self._right_turn == LEFT else 3, -2] = _GOAL
        cells[2, 1 + self._position] = _AGENT
        return cells.repeat(_CELL, 0).repeat(_CELL, 1)

    def _shown(self, cue: float = 0.0) -> NDArray[np.float32]:
        return np.array([cue, self._position == self.corridor_length], np.float32)


def t_maze(
    corridor_length: int = 20, render_mode: Literal["rgb_array"] | None = None
) -> gymnasium.Env[NDArray[np.float32], np.int64]:
    """A :class:`TMaze` whose episodes are truncated after ``2 * (corridor_length + 1)`` steps, twice what it takes."""
    maze = TMaze(corridor_length, render_mode)
    return TimeLimit(maze, 2 * (maze.corridor_length + 1))


def register_t_maze() -> None:
    """Makes ``bbrl_exp/TMaze-v0`` known to gymnasium, in this process."""
    gymnasium.register("bbrl_exp/TMaze-v0", entry_point=f"{__name__}:t_maze")
