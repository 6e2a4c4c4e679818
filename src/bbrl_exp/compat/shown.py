"""Environments as BBRL shows them: integers as int64, observations in the shape in which they come, no Autoreset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import Autoreset

from bbrl_exp.errors import ConfigurationError

Env = gymnasium.Env[Any, Any]
Space = gymnasium.Space[Any]


class ShownEnvironments:
    """Makes the environments of an agent; a function from nothing, or more keyword arguments, to an environment.

    The first one is made at once, to see what it shows.

    Args:
        make: BBRL's function that makes an environment.
        arguments: its keyword arguments.

    Attributes:
        resets_itself: whether the environments are made with the wrapper Autoreset, which is taken off.
        spaces: the observation space and the action space of the environment as it was made.

    Raises:
        ConfigurationError: what is made is not an environment of gymnasium.
    """

    def __init__(self, make: Callable[..., Env], arguments: Mapping[str, Any] | None) -> None:
        if not callable(make):
            raise ConfigurationError(f"make_env_fn={make!r}: expected a function that makes an environment")
        self._make, self._arguments = make, dict(arguments or {})
        self.__qualname__ = getattr(make, "__qualname__", "environment")
        env, self.resets_itself = self._bare()
        if env.spec is not None:
            self.__qualname__ = env.spec.id
        self.spaces = env.observation_space, env.action_space
        self._shown = shown_space(env.observation_space, env.reset()[0])
        self._first: Env | None = env

    def __call__(self, **more: Any) -> Env:
        env, self._first = (self._first if not more else None) or self._bare(more)[0], None
        return env if env.observation_space == self._shown else ShownObservation(env, self._shown)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_first": None}

    def _bare(self, more: Mapping[str, Any] | None = None) -> tuple[Env, bool]:
        env: Any = self._make(**self._arguments, **(more or {}))
        if not isinstance(env, gymnasium.Env):
            module = type(env).__module__.partition(".")[0]
            fix = "; replace 'import gym' by 'import gymnasium as gym'" if module == "gym" else ""
            raise ConfigurationError(
                f"{self.__qualname__}: expected an environment of gymnasium, found one of {module}, "
                f"{type(env).__name__}{fix}"
            )
        return without_autoreset(env)


def without_autoreset(env: Env) -> tuple[Env, bool]:
    """The environment without the wrapper Autoreset, wherever it is, and whether it was there."""
    if isinstance(env, Autoreset):
        return without_autoreset(env.env)[0], True
    if not isinstance(env, gymnasium.Wrapper):
        return env, False
    env.env, found = without_autoreset(env.env)
    return env, found


class ShownObservation(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Shows observations in the dtypes and shapes of another space."""

    def __init__(self, env: Env, space: Space) -> None:
        super().__init__(env)
        self.observation_space = space

    def observation(self, observation: Any) -> Any:
        return _as(self.observation_space, observation)


def shown_space(space: Space, observation: Any) -> Space:
    """The space of what is shown: integers but uint8 become int64, and shapes are those seen."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: shown_space(part, observation[key]) for key, part in space.spaces.items()})
    if not isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        return space
    array = np.asarray(observation)
    if array.shape == space.shape and (array.dtype.kind == "f" or array.dtype in (np.uint8, np.int64)):
        return space
    if array.dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, array.shape, np.float32)
    dtype: Any = np.uint8 if array.dtype == np.uint8 else np.int64
    return spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, array.shape, dtype)


def _as(space: Space, observation: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _as(part, observation[key]) for key, part in space.spaces.items()}
    return np.asarray(observation, space.dtype) if isinstance(space, spaces.Box) else observation


def size_of(space: Space) -> Any:
    """Size of a vector, number of values of a Discrete space, or the shape of anything else."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    shape = space.shape
    if not shape:
        raise ConfigurationError(f"get_obs_and_actions_sizes: {space} has no one size; look at get_observation_space()")
    return shape[0] if len(shape) == 1 else cast(Any, shape)
