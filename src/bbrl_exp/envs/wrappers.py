"""Wrappers that change what an environment shows, or which actions it offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from bbrl_exp.arguments import AT_LEAST_1
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
        self.visible = np.array([index for index in range(size) if index not in set(hidden)], np.intp)
        if self.visible.size == 0:
            raise ConfigurationError(f"hidden={list(hidden)} leaves nothing of the {size} components to see")
        self.observation_space = gymnasium.spaces.Box(
            space.low[self.visible], space.high[self.visible], dtype=space.dtype.type
        )

    def observation(self, observation: Vector) -> Vector:
        """The visible components, ``[D - len(hidden)]``."""
        return observation[self.visible]


class GridObservation(gymnasium.ObservationWrapper[dict[str, Any], Any, dict[str, Any]]):
    """What MiniGrid shows, without its text: ``image`` as a grid of categories, and ``direction``.

    MiniGrid calls its grid an image of uint8. Here its space says what it is: a MultiDiscrete ``[H, W, K]``, so that
    policies see one-hot planes and not shades of grey. Parts without a shape, such as the text ``mission``, are left
    out.

    Args:
        env: an environment whose observation is a Dict with a Box ``image`` ``[H, W, K]``.
        counts: number of categories of each of the K components of a cell; by default those of MiniGrid: 11 objects, 6
            colours, and 4 states, for the agent's own cell shows its direction there in fully observed grids.

    Raises:
        ConfigurationError: another observation space, or another number of components.
    """

    def __init__(self, env: gymnasium.Env[dict[str, Any], Any], counts: Sequence[int] = (11, 6, 4)) -> None:
        super().__init__(env)
        space = env.observation_space
        image = space.spaces.get("image") if isinstance(space, gymnasium.spaces.Dict) else None
        if (
            not isinstance(space, gymnasium.spaces.Dict)
            or not isinstance(image, gymnasium.spaces.Box)
            or len(image.shape) != 3
        ):
            raise ConfigurationError(f"GridObservation needs a Dict observation with an image [H, W, K], found {space}")
        if len(counts) != image.shape[2]:
            raise ConfigurationError(f"counts={list(counts)}: must be {image.shape[2]} numbers, one per component")
        grid = gymnasium.spaces.MultiDiscrete(np.broadcast_to(np.array(counts), image.shape), dtype=image.dtype)
        shown = {key: part for key, part in space.items() if part.shape is not None}
        self._keys = tuple(shown)
        self.observation_space = gymnasium.spaces.Dict({**shown, "image": grid})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The parts that are shown, as the environment gave them."""
        return {key: observation[key] for key in self._keys}


class FirstActions(gymnasium.ActionWrapper[Any, int, int]):
    """Offers only the first of an environment's actions, where the others do nothing.

    Args:
        env: an environment whose action space is Discrete.
        n_actions: number of actions that remain.

    Raises:
        ConfigurationError: another action space, or a number that it does not have.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], n_actions: int) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise ConfigurationError(f"FirstActions needs a Discrete action space, found {space}")
        AT_LEAST_1.check(n_actions=n_actions)
        if n_actions > space.n:
            raise ConfigurationError(
                f"n_actions={n_actions}: must be at most {space.n}, the number of actions there are"
            )
        self.action_space = gymnasium.spaces.Discrete(n_actions, start=space.start, dtype=space.dtype.type)

    def action(self, action: int) -> int:
        """The action itself."""
        return action
