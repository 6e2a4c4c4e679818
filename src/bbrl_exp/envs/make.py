"""How one environment is made: a gymnasium id or a function, its arguments and its wrappers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec as RegisteredEnv
from gymnasium.envs.registration import load_env_creator

from bbrl_exp.envs.mujoco_warnings import tell_mujoco_warnings_once
from bbrl_exp.envs.probes import register_probes
from bbrl_exp.errors import BbrlExpError, ConfigurationError, did_you_mean

Env = gymnasium.Env[Any, Any]
EnvFactory = Callable[..., Env]
Wrapper = Callable[[Env], Env]

_OWN_EXTRAS = ("box2d", "mujoco")

register_probes()


@dataclass(frozen=True, eq=False)
class EnvRecipe:
    """Makes environments that are all alike; cloudpickle carries it to a worker process.

    Attributes:
        name: the id, or the name of the function.
        source: the registered entry of the id (a worker's own registry may lack it), or the function.
        kwargs: keyword arguments of the environment.
        wrappers: functions from an environment to an environment, applied in this order.
    """

    name: str
    source: RegisteredEnv | EnvFactory
    kwargs: Mapping[str, Any]
    wrappers: tuple[Wrapper, ...]

    def __call__(self) -> Env:
        """One new environment.

        Raises:
            ConfigurationError: a package that is not installed, or arguments that the environment refuses.
        """
        with self.errors_explained():
            if isinstance(self.source, RegisteredEnv):
                if isinstance(self.source.entry_point, str):
                    load_env_creator(self.source.entry_point)  # imports what the environment needs, such as MuJoCo
                tell_mujoco_warnings_once()
                env = gymnasium.make(self.source, disable_env_checker=True, **self.kwargs)
            else:
                env = self.source(**self.kwargs)
        for wrapper in self.wrappers:
            env = self._wrapped(env, wrapper)
        if not isinstance(env, gymnasium.Env):
            raise ConfigurationError(f"{self.name}: expected a gymnasium.Env, found {type(env).__name__}")
        return env

    def _wrapped(self, env: Env, wrapper: Wrapper) -> Env:
        try:
            return wrapper(env)
        except (TypeError, ImportError, gymnasium.error.Error) as error:
            name = getattr(wrapper, "__name__", type(wrapper).__name__)
            raise ConfigurationError(f"wrapper {name} of {self.name} cannot be made: {error}") from error

    @contextlib.contextmanager
    def errors_explained(self) -> Iterator[None]:
        """Turns what may go wrong while an environment is made into a ConfigurationError."""
        try:
            yield
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise ConfigurationError(self._what_is_missing(error)) from error
        except (TypeError, gymnasium.error.Error) as error:
            raise ConfigurationError(
                f"{self.name} with arguments {dict(self.kwargs)} cannot be made: {error}"
            ) from error

    def _what_is_missing(self, error: Exception) -> str:
        hint = re.search(r"gymnasium\[([\w-]+)\]", str(error))
        entry_point = self.source.entry_point if isinstance(self.source, RegisteredEnv) else ""
        extra = hint.group(1) if hint else next((e for e in _OWN_EXTRAS if f".{e}" in str(entry_point)), None)
        if extra is None:
            return f"{self.name} needs a package that is not installed: {error}"
        package = "bbrl_exp" if extra in _OWN_EXTRAS else "gymnasium"
        return f"{self.name} needs the extra '{extra}', which is not installed: pip install \"{package}[{extra}]\""


def env_recipe(
    env: str | EnvFactory, kwargs: Mapping[str, Any] | None = None, wrappers: Sequence[Wrapper] = ()
) -> EnvRecipe:
    """The recipe for a gymnasium id or a function that returns an environment.

    Raises:
        ConfigurationError: an unknown id, an id that names a module to import, or something that is neither.
    """
    arguments = dict(kwargs or {})
    for wrapper in wrappers:
        if not callable(wrapper):
            raise ConfigurationError(f"wrapper {wrapper!r}: expected a function from an environment to an environment")
    if callable(env) and not isinstance(env, str):
        return EnvRecipe(getattr(env, "__qualname__", type(env).__name__), env, arguments, tuple(wrappers))
    if not isinstance(env, str):
        raise ConfigurationError(f"env={env!r}: expected a gymnasium id or a function that returns an environment")
    if ":" in env:
        raise ConfigurationError(
            f"env '{env}': an id that names a module to import is refused; import the module that registers it first, "
            f"by BBRL_EXP_ALLOW=<package> on the command line"
        )
    if env not in gymnasium.registry:
        near = did_you_mean(env, gymnasium.registry)
        own = "; the package that registers one of your own is named by BBRL_EXP_ALLOW=<package>"
        raise ConfigurationError(f"env '{env}' is not a registered gymnasium id{near or own}")
    return EnvRecipe(env, gymnasium.registry[env], arguments, tuple(wrappers))


def make_envs(recipe: EnvRecipe, count: int, first: int = 0) -> list[Env]:
    """Environments ``first`` … ``first + count - 1`` of a batch.

    Raises:
        ConfigurationError: one cannot be made, or does not have the spaces of the first one.
    """
    envs: list[Env] = []
    try:
        for index in range(first, first + count):
            envs.append(recipe())
            if (envs[-1].observation_space, envs[-1].action_space) != (
                envs[0].observation_space,
                envs[0].action_space,
            ):
                raise ConfigurationError(
                    f"environment {index} of {recipe.name} has spaces {envs[-1].observation_space}, "
                    f"{envs[-1].action_space}; environment {first} has {envs[0].observation_space}, "
                    f"{envs[0].action_space}"
                )
    except BaseException as error:
        for env in envs:
            env.close()
        if not isinstance(error, BbrlExpError):
            error.add_note(f"while environment {first + len(envs)} of {recipe.name} was made")
        raise
    return envs
