"""Wrappers that make environments partially observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from bbrl_exp.errors import ConfigurationError

Vector = NDArray[np.generic]


class MaskObservation(gymnasium.ObservationWrapper[Vector, Any, Vector]):
    """Removes components from a vector observation.

    Args:
        env: an environment whose observation space is a Box of one dimension.
        hidden: indices of the components that are not shown; the others keep their order.

    Raises:
        ConfigurationError: another observation space, an index outside of it, or nothing left to see.
    """

    def __init__(self, env: gymnasium.Env[Vector, Any], hidden: Sequence[int]) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise ConfigurationError(f"MaskObservation needs a Box observation of one dimension, found {space}")
        size = space.shape[0]
        outside = [index for index in hidden if not 0 <= index < size]
        if outside:
            raise ConfigurationError(f"hidden={list(hidden)}: the observation has components 0 … {size - 1}")
        self._visible = np.array([index for index in range(size) if index not in set(hidden)], np.intp)
        if self._visible.size == 0:
            raise ConfigurationError(f"hidden={list(hidden)} leaves nothing of the {size} components to see")
        self.observation_space = gymnasium.spaces.Box(
            space.low[self._visible], space.high[self._visible], dtype=space.dtype.type
        )

    def observation(self, observation: Vector) -> Vector:
        """The visible components, ``[D - len(hidden)]``."""
        return observation[self._visible]
