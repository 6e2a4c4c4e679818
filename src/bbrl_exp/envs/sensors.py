"""Imperfect sensors: wrappers that show observations only sometimes, late, or with noise.

Their random numbers are drawn from the environment's own stream, ``np_random``, so that the seed of an episode decides
them too.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from bbrl_exp.arguments import COUNT_FROM_0, FROM_0_TO_1
from bbrl_exp.errors import ConfigurationError

Space = gymnasium.Space[Any]


class FlickeringObservation(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Shows nothing with a fixed probability, drawn at each step (Hausknecht and Stone, 2015, arXiv:1507.06527).

    Nothing is zeros where the observation is a Box or MultiBinary; a Box whose bounds exclude zero is widened. Discrete
    and MultiDiscrete get one more category for it, the last one. The parts of a Dict or a Tuple vanish together. The
    first observation of an episode is no exception, nor is the last one.

    Args:
        env: an environment whose observation is made of these spaces.
        probability: of an observation that is not shown, 0 to 1.

    Raises:
        ConfigurationError: another probability, or another kind of space.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], probability: float = 0.5) -> None:
        super().__init__(env)
        FROM_0_TO_1.check(probability=probability)
        self.probability = probability
        self.observation_space = _with_nothing(env.observation_space, "FlickeringObservation")

    def observation(self, observation: Any) -> Any:
        """The observation, or nothing."""
        if self.np_random.random() < self.probability:
            return _nothing(self.observation_space)
        return observation


class DelayedObservation(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Shows each observation ``delay`` steps late. Rewards and ends of episodes come in time.

    In the first ``delay`` rows of an episode, before its first observation arrives, nothing is shown, as by
    :class:`FlickeringObservation`. The last ``delay`` observations of an episode are never shown.

    Args:
        env: an environment whose observation is made of Box, MultiBinary, Discrete, MultiDiscrete, Dict and Tuple.
        delay: number of steps.

    Raises:
        ConfigurationError: a delay below 0, or another kind of space.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], delay: int) -> None:
        super().__init__(env)
        COUNT_FROM_0.check(delay=delay)
        self.observation_space = _with_nothing(env.observation_space, "DelayedObservation")
        self._on_the_way: deque[Any] = deque(maxlen=delay + 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; what is left of the one before does not arrive."""
        self._on_the_way.clear()
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        """The observation of ``delay`` steps ago."""
        self._on_the_way.append(copy.deepcopy(observation))  # environments may change the array that they have given
        is_there = len(self._on_the_way) == self._on_the_way.maxlen
        return self._on_the_way[0] if is_there else _nothing(self.observation_space)


class NoisyObservation(gymnasium.ObservationWrapper[NDArray[Any], Any, NDArray[Any]]):
    """Adds normal noise with mean 0 to an observation of floats.

    Its dtype stays, its bounds are given up where there is noise: nothing is clipped.

    Args:
        env: an environment whose observation is a Box of floats, of any shape.
        std: the standard deviation, in the units of the observation: one number, or one per component.

    Raises:
        ConfigurationError: another observation space, a negative number, or another number of numbers.
    """

    def __init__(self, env: gymnasium.Env[NDArray[Any], Any], std: float | Sequence[float]) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            raise ConfigurationError(f"NoisyObservation needs a Box observation of floats, found {space}")
        given = np.asarray(std, np.float64)
        if given.shape not in ((), space.shape) or not (np.isfinite(given) & (given >= 0)).all():
            raise ConfigurationError(
                f"std={given.tolist()}: must be a finite number of at least 0, or one per component of the "
                f"observation, {list(space.shape)}"
            )
        self._std = np.broadcast_to(given, space.shape)
        self.observation_space = spaces.Box(
            np.where(self._std > 0, -np.inf, space.low).astype(space.dtype),
            np.where(self._std > 0, np.inf, space.high).astype(space.dtype),
            dtype=space.dtype.type,
        )

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The observation with noise, in its dtype."""
        noise = self._std * self.np_random.standard_normal(self._std.shape)
        noisy: NDArray[Any] = (observation + noise).astype(self.observation_space.dtype)
        return noisy


def _with_nothing(space: Space, wrapper: str) -> Space:
    """The space with a value that means nothing."""
    if isinstance(space, spaces.Box):
        return spaces.Box(np.minimum(space.low, 0), np.maximum(space.high, 0), dtype=space.dtype.type)
    if isinstance(space, spaces.MultiBinary):
        return space
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(space.n + 1, start=space.start, dtype=space.dtype.type)
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec + 1, dtype=space.dtype.type, start=space.start)
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _with_nothing(part, wrapper) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_with_nothing(part, wrapper) for part in space.spaces])
    raise ConfigurationError(
        f"{wrapper} cannot show nothing in a {type(space).__name__}; possible: Box, MultiBinary, Discrete, "
        "MultiDiscrete, and Dict and Tuple of these"
    )


def _nothing(space: Space) -> Any:
    """The value that means nothing, of a space that :func:`_with_nothing` has made."""
    if isinstance(space, spaces.Dict):
        return {key: _nothing(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_nothing(part) for part in space.spaces)
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return (space.start + space.nvec - 1).astype(space.dtype)
    return np.zeros(space.shape or (), space.dtype)
