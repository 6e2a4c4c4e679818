"""How one environment is made: a gymnasium id or a function, its arguments and its wrappers."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec as RegisteredEnv
from gymnasium.envs.registration import load_env_creator
from gymnasium.wrappers import Autoreset, NormalizeObservation, NormalizeReward, vector

from bbrl_exp.envs.plugins import import_plugin_of
from bbrl_exp.envs.probes import register_probes
from bbrl_exp.envs.t_maze import register_t_maze
from bbrl_exp.envs.told_warnings import tell_mujoco_warnings_once
from bbrl_exp.errors import BbrlExpError, ConfigurationError, UserCodeError, described, did_you_mean, user_code

Env = gymnasium.Env[Any, Any]
EnvFactory = Callable[..., Env]
Wrapper = Callable[[Env], Env]

_STATISTICS = (
    "keeps running statistics that evaluations do not share and that a resumed run has lost: use the agent "
    "bbrl_exp.policies.normalize.{} instead"
)
_WRONG_WRAPPERS = {
    (NormalizeObservation, vector.NormalizeObservation): _STATISTICS.format("NormalizeObservation"),
    (NormalizeReward, vector.NormalizeReward): _STATISTICS.format("NormalizeReward"),
    (Autoreset,): "resets without the seeds of the run: leave it out, environments are reset anyway",
}
_OWN_EXTRAS = ("atari", "box2d", "mujoco")

register_probes()
register_t_maze()


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
            ConfigurationError: it cannot be made, or is wrapped in what would make results wrong.
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
            name = getattr(wrapper, "__name__", type(wrapper).__name__)
            with self.errors_explained(f"wrapper {name} of {self.name}"):
                env = wrapper(env)
        if not isinstance(env, gymnasium.Env):
            raise ConfigurationError(f"{self.name}: expected a gymnasium.Env, found {type(env).__name__}")
        self.check_wrappers(env)
        with self.errors_explained():
            spaces = env.observation_space, env.action_space
        if not all(isinstance(space, gymnasium.Space) for space in spaces):
            raise ConfigurationError(
                f"{self.name}: expected two spaces of gymnasium, found {spaces[0]!r}, {spaces[1]!r}"
            )
        return env

    def check_wrappers(self, env: Any) -> None:
        """Refuses gymnasium's wrappers whose work is done right elsewhere only.

        Raises:
            ConfigurationError: the wrapper, why, and what to use instead.
        """
        while isinstance(env, gymnasium.Wrapper | gymnasium.vector.VectorWrapper):
            for kinds, problem in _WRONG_WRAPPERS.items():
                if isinstance(env, kinds):
                    raise ConfigurationError(f"{self.name}: the wrapper {type(env).__name__} {problem}")
            env = env.env

    @contextlib.contextmanager
    def errors_explained(self, what: str | None = None) -> Iterator[None]:
        """Turns what goes wrong while an environment, or ``what``, is made into a ConfigurationError."""
        is_made = what is None
        arguments = f" with arguments {dict(self.kwargs)}" if self.kwargs and is_made else ""
        what = what or self.name
        try:
            with user_code(what):
                yield
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise ConfigurationError(self._what_is_missing(error, what)) from error
        except gymnasium.error.Error as error:
            raise ConfigurationError(f"{what}{arguments} cannot be made: {error}") from error
        except Exception as error:
            if isinstance(error, BbrlExpError) and not isinstance(error, UserCodeError):
                if is_made and str(error).partition("=")[0] in self.kwargs:
                    raise type(error)(f"kwargs.{error}") from error
                raise
            said = str(error) if isinstance(error, UserCodeError) else described(error)
            raise ConfigurationError(f"{what}{arguments} cannot be made: its constructor raised {said}") from error

    def _what_is_missing(self, error: Exception, what: str) -> str:
        hint = re.search(r"gymnasium\[([\w-]+)\]", str(error))
        entry_point = self.source.entry_point if isinstance(self.source, RegisteredEnv) else ""
        extra = next((e for e in _OWN_EXTRAS if f".{e}" in str(entry_point)), hint.group(1) if hint else None)
        if extra is None:
            return f"{what} needs a package that is not installed: {error}"
        package = "bbrl_exp" if extra in _OWN_EXTRAS else "gymnasium"
        return f"{what} needs the extra '{extra}', which is not installed: pip install \"{package}[{extra}]\""


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
        import_plugin_of(env)
    if env not in gymnasium.registry:
        near = did_you_mean(env, gymnasium.registry) or "."
        raise ConfigurationError(
            f"env '{env}': unknown Gymnasium id{near} If another package registers it, allow that package: "
            'BBRL_EXP_ALLOW=<package>, or allow = ["<package>"] below [tool.bbrl_exp] in pyproject.toml'
        )
    return EnvRecipe(env, gymnasium.registry[env], arguments, tuple(wrappers))


def close_env(env: Env | gymnasium.vector.VectorEnv[Any, Any, Any], name: str) -> None:
    """Closes an environment; one that fails to costs a warning and nothing else."""
    try:
        with user_code(name):
            env.close()
    except Exception as error:
        warnings.warn(f"{name}: close() raised {described(error)}", stacklevel=2)


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
    except BaseException:
        for env in envs:
            close_env(env, recipe.name)
        raise
    return envs
