"""The environments of gymnasium that are there as arrays too: what ``env.backend`` chooses between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import (
    AcrobotEnv,
    CartPoleEnv,
    Continuous_MountainCarEnv,
    MountainCarEnv,
    PendulumEnv,
)
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from bbrl_exp.envs.arrays.acrobot import Acrobot
from bbrl_exp.envs.arrays.cartpole import CartPole
from bbrl_exp.envs.arrays.environments import ArrayEnvironments, Seeds
from bbrl_exp.envs.arrays.gym_task import GymTask
from bbrl_exp.envs.arrays.mountain_car import MountainCar
from bbrl_exp.envs.arrays.mountain_car_continuous import MountainCarContinuous
from bbrl_exp.envs.arrays.numba_environments import NumbaEnvironments
from bbrl_exp.envs.arrays.pendulum import Pendulum
from bbrl_exp.envs.arrays.t_maze import TMazeTask
from bbrl_exp.envs.arrays.torch_environments import TorchEnvironments
from bbrl_exp.envs.make import Wrapper, env_recipe
from bbrl_exp.envs.rows import info_dtypes
from bbrl_exp.envs.t_maze import TMaze
from bbrl_exp.envs.wrappers import MaskObservation
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.extras import module_of_extra

_TASKS: Mapping[type[Any], type[GymTask]] = {
    AcrobotEnv: Acrobot,
    CartPoleEnv: CartPole,
    Continuous_MountainCarEnv: MountainCarContinuous,
    MountainCarEnv: MountainCar,
    PendulumEnv: Pendulum,
    TMaze: TMazeTask,
}
KNOWN_IDS = (
    "Acrobot-v1",
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "bbrl_exp/TMaze-v0",
)
"""The Gymnasium ids that are there as arrays."""
_PLACES = ("gymnasium.envs.classic_control.", "bbrl_exp.envs.t_maze:")
_OWN_WRAPPERS = (TimeLimit, OrderEnforcing, PassiveEnvChecker)


class _OfGymnasium(ArrayEnvironments):
    """The arguments of gymnasium's agents, for environments that are there as arrays."""

    _backend: ClassVar[str]

    def __init__(
        self,
        env: str,
        batch_size: int,
        seed: Seeds = 0,
        *,
        role: str = "train",
        stepping: str = "auto",
        workers: int = 0,
        worker_timeout: float = 60.0,
        wrappers: Sequence[Wrapper] = (),
        kwargs: Mapping[str, Any] | None = None,
        clip_actions: bool = True,
        info_keys: Mapping[str, str] | Sequence[str] | None = None,
        float_observations: Literal["float32"] | None = None,
        name: str | None = None,
    ) -> None:
        _check_stepping(self._backend, stepping, workers)
        if self._backend == "array":
            _check_extra()
        task, hidden = known_task(self._backend, env, kwargs, wrappers)
        options: dict[str, Any] = {"clip_actions": clip_actions, "info": info_dtypes(info_keys or ()), "hidden": hidden}
        super().__init__(task, batch_size, seed, role=role, name=name, **options)


class ArrayBackend(_OfGymnasium, NumbaEnvironments):
    """Environments of gymnasium as arrays that numba compiles for the CPU: ``env.backend=array``.

    Every row is that of gymnasium for the same state and actions. Initial states are drawn from other streams, and are
    therefore other ones than gymnasium's for the same seed.

    Args:
        env: a gymnasium id.
        batch_size: number B of environments.
        seed: the root seed, or several: see :class:`~bbrl_exp.envs.arrays.environments.ArrayEnvironments`.
        role: ``"train"``, or the list of episodes that is evaluated.
        stepping: ``"auto"``: the batch is stepped as one.
        workers: 0: there are no worker processes.
        worker_timeout: without workers of no effect.
        wrappers: only :class:`~bbrl_exp.envs.wrappers.MaskObservation`.
        kwargs: keyword arguments of the environment.
        clip_actions: whether the environments get Box actions clipped to their bounds.
        info_keys: info keys to record, as a mapping to dtype names, or a list for float32; None for none.
        float_observations: observations are float32 anyway.
        name: the agent's name.

    Raises:
        ConfigurationError: an environment that is not there as arrays, or an argument that does not apply to them.
    """

    _backend = "array"


class TorchBackend(_OfGymnasium, TorchEnvironments):
    """Environments of gymnasium as tensors on any device: ``env.backend=torch``.

    Rows are those of gymnasium for the same state and actions but for the last digits of sines and cosines. Initial
    states are those of :class:`ArrayBackend`.

    The arguments are those of :class:`ArrayBackend`.

    Raises:
        ConfigurationError: an environment that is not there as arrays, or an argument that does not apply to them.
    """

    _backend = "torch"


def _check_extra() -> None:
    try:
        module_of_extra("numba", "array", "key 'env.backend' = 'array':")
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}, or use env.backend=torch or env.backend=gym") from error


def _check_stepping(backend: str, stepping: str, workers: int) -> None:
    if stepping != "auto":
        raise ConfigurationError(f"stepping={stepping!r}: must be auto with env.backend={backend}")
    if workers:
        raise ConfigurationError(f"workers={workers}: must be 0 with env.backend={backend}, which needs none")


def known_task(
    backend: str, env: str, kwargs: Mapping[str, Any] | None = None, wrappers: Sequence[Wrapper] = ()
) -> tuple[GymTask, tuple[int, ...]]:
    """The task of a gymnasium id, and the components of its observation that a mask hides.

    Raises:
        ConfigurationError: gymnasium refuses it, it is not there as arrays, or there is a wrapper that cannot apply.
    """
    recipe = env_recipe(env, kwargs, wrappers)
    unknown = ConfigurationError(
        f"env '{env}': not available with env.backend={backend}; "
        f"available: {', '.join(KNOWN_IDS)}; env.backend=gym takes any, and docs/array_environments.md shows how to "
        "write your own as an ArrayTask"
    )
    entry_point = getattr(recipe.source, "entry_point", None)
    if isinstance(entry_point, str) and not entry_point.startswith(_PLACES):
        raise unknown  # without what it would need to be made
    made = recipe()
    with closing(made):
        task = _TASKS.get(type(made.unwrapped))
        if task is None:
            raise unknown
        visible = np.arange(int(np.prod(made.unwrapped.observation_space.shape or ())))
        chain: list[Any] = []
        wrapped: Any = made
        while isinstance(wrapped, gymnasium.Wrapper):
            chain.insert(0, wrapped)
            wrapped = wrapped.env
        for wrapper in chain:
            if isinstance(wrapper, MaskObservation):
                visible = visible[wrapper.visible]
            elif not isinstance(wrapper, _OWN_WRAPPERS):
                raise ConfigurationError(
                    f"wrappers: {type(wrapper).__name__} does not apply to array environments; "
                    f"with env.backend={backend} only MaskObservation does; env.backend=gym takes any"
                )
        hidden = set(range(int(np.prod(made.unwrapped.observation_space.shape or ())))) - set(visible.tolist())
        return task(env_recipe(env, kwargs), made), tuple(sorted(hidden))
