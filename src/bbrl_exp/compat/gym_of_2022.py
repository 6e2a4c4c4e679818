"""The environment agents of 2022, with their constructors: rewards at t + 1 (gyma), or at t (gymb)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.wrappers import Autoreset

from bbrl_exp.compat import gym
from bbrl_exp.compat.shown import Env
from bbrl_exp.errors import ConfigurationError


class GymAgent(gym.GymAgent):
    """Environments that play one episode each: a finished one repeats its last row.

    Args:
        make_env_fn: makes an environment of gymnasium.
        make_env_args: its keyword arguments.
        n_envs: number B of environments.
        seed: the root seed; may be given by a chained ``.seed()`` instead.
        action_string: the variable of the actions.
        output: what the names of the other variables begin with.

    Raises:
        ConfigurationError: an environment that is not possible.
    """

    resets_itself = False

    def __init__(
        self,
        make_env_fn: Callable[..., Env] | None = None,
        make_env_args: Mapping[str, Any] | None = None,
        n_envs: int | None = None,
        seed: int | None = None,
        action_string: str = "action",
        output: str = "env/",
        name: str | None = None,
    ) -> None:
        if make_env_fn is None or n_envs is None:
            missing = "make_env_fn" if make_env_fn is None else "n_envs"
            raise ConfigurationError(f"{type(self).__name__}: {missing} is missing; give make_env_fn and n_envs")
        made = _Made(make_env_fn, self.resets_itself)
        super().__init__(
            made, n_envs, make_env_args, input_string=action_string, output_string=output, seed=seed, name=name
        )

    def get_obs_and_actions_sizes(self) -> tuple[Any, Any]:
        """Sizes of an observation, 1 for a Discrete one, and of an action, or the number of actions."""
        observation, action = super().get_obs_and_actions_sizes()
        return 1 if self.is_discrete_state() else observation, action


class AutoResetGymAgent(GymAgent):
    """Environments that reset themselves."""

    resets_itself = True


class NoAutoResetGymAgent(GymAgent):
    """Environments that play one episode each."""


class _RewardAtT(GymAgent):
    """The reward of the action at t is in row t, and in row t + 1 until that has its own."""

    def forward(self, t: int = 0, **kwargs: Any) -> None:
        """Writes row ``t``, and its reward in row t - 1, too."""
        super().forward(t, **kwargs)
        if t == 0:
            return
        reward, begins = f"{self.output}reward", self.get((f"{self.output}initial_state", t))
        earned = self.get((reward, t)).where(~begins, self.get((reward, t - 1)))
        self.set((reward, t - 1), earned)
        self.set((reward, t), earned)


class GymAgentB(_RewardAtT):
    """Environments that play one episode each, rewards at t."""


class AutoResetGymAgentB(_RewardAtT):
    """Environments that reset themselves, rewards at t."""

    resets_itself = True


class NoAutoResetGymAgentB(_RewardAtT):
    """Environments that play one episode each, rewards at t."""


class _Made:
    """Makes environments with or without the wrapper Autoreset, by which an agent knows whether to reset them."""

    def __init__(self, make: Callable[..., Env], resets_itself: bool) -> None:
        self._make, self._resets_itself = make, resets_itself
        self.__qualname__ = getattr(make, "__qualname__", "environment")

    def __call__(self, **arguments: Any) -> Env:
        env = self._make(**arguments)
        return Autoreset(env) if self._resets_itself and isinstance(env, gymnasium.Env) else env
