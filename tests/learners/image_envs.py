"""A tiny game of images, to see that convolutions are learned end to end."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


class BrightSide(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """One bright pixel somewhere on a dark frame; the side that it is on is the right action, which pays 1.

    Args:
        shape: ``[C, 8, 8]``, ``[8, 8, C]`` or ``[8, 8]``.
    """

    def __init__(self, shape: tuple[int, ...] = (1, 8, 8)) -> None:
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(2)
        self._shape = shape
        self._column = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        return self._frame(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        reward = float(int(action) == self._column // 4)
        return self._frame(), reward, True, False, {}

    def _frame(self) -> NDArray[np.uint8]:
        row, self._column = (int(self.np_random.integers(8)) for _ in range(2))
        frame = np.zeros((8, 8), np.uint8)
        frame[row, self._column] = 255
        if len(self._shape) == 2:
            return frame
        is_last = self._shape[0] == 8
        channels = self._shape[2 if is_last else 0]
        return np.stack([frame] * channels, axis=2 if is_last else 0)
