"""BBRL's environment agents, on those of this project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import gymnasium
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import Autoreset

from bbrl_exp.compat.agent import Agent
from bbrl_exp.compat.same_step import SameStep
from bbrl_exp.compat.shown import Env, ShownEnvironments, Space, size_of
from bbrl_exp.envs.gym_agents import GymAgent as CoreGymAgent
from bbrl_exp.errors import ConfigurationError


def make_env(
    env_name: str, autoreset: bool = False, wrappers: Sequence[Callable[[Env], Env]] = (), **kwargs: Any
) -> Env:
    """An environment of gymnasium.

    Args:
        env_name: its id.
        autoreset: whether it is to reset itself; an environment agent sees that and does it.
        wrappers: functions from an environment to an environment, applied in this order.
        kwargs: keyword arguments of the environment.
    """
    env: Env = gymnasium.make(env_name, **kwargs)
    for wrapper in wrappers:
        env = wrapper(env)
    return Autoreset(env) if autoreset else env


class GymAgent(CoreGymAgent, Agent):
    """Environments of gymnasium side by side, with the methods and options of BBRL.

    See :class:`bbrl_exp.envs.gym_agents.GymAgent` for the variables. Their streams of random numbers are those of this
    project: two seeds share no episode, and neither do two roles. At t = 0 a new recording begins, and rows beyond 0 of
    all variables are dropped.

    Args:
        make_env_fn: makes an environment; where that has the wrapper Autoreset, the environments reset themselves.
        num_envs: number B of environments.
        make_env_args: keyword arguments of ``make_env_fn``.
        input_string: the variable of the actions.
        output_string: what the names of the other variables begin with.
        reward_at_t: whether the reward of the action at t is written at t, not at t + 1.
        include_last_state: whether environments that reset themselves show the last observation of an episode; without
            it, row t is done and holds the first observation of the next episode.
        seed: the root seed; 42 where nobody gives one.
        role: ``"train"`` or ``"eval"``: which episodes; by default the former where the environments reset themselves.
        name: the agent's name.

    Raises:
        ConfigurationError: an environment or a combination of arguments that is not possible.
    """

    default_seed = 42

    def __init__(
        self,
        make_env_fn: Callable[..., Env],
        num_envs: int,
        make_env_args: Mapping[str, Any] | None = None,
        *,
        input_string: str = "action",
        output_string: str = "env/",
        reward_at_t: bool = False,
        include_last_state: bool = True,
        seed: int | None = None,
        role: str | None = None,
        name: str | None = None,
    ) -> None:
        made = ShownEnvironments(make_env_fn, make_env_args)
        self.__dict__.setdefault("auto_reset", made.resets_itself)
        root_seed = self.default_seed if seed is None else seed
        role = role or ("train" if self.auto_reset else "eval")
        CoreGymAgent.__init__(
            self, made, num_envs, root_seed, role=role, clip_actions=False, float_observations="float32", name=name
        )
        self.observation_space, self.action_space = made.spaces
        self.num_envs = self.n_envs = self.batch_size
        self.reward_at_t = reward_at_t
        self.include_last_state = include_last_state or not self.auto_reset
        self._rename(input_string, output_string)
        self._same_step = None
        if not self.include_last_state:
            self._same_step = SameStep(self.envs, self._seed, self.role, self._options["first"], self._layout)

    def forward(self, t: int = 0, **kwargs: Any) -> None:
        """Writes row ``t``; at t = 0 a new recording begins.

        Raises:
            ConfigurationError: ``render`` or ``save_render``, which environments of gymnasium do not have.
        """
        for option in ("render", "save_render"):
            if kwargs.get(option):
                raise ConfigurationError(f"{option}=True: pictures are not recorded here; use record_video")
        if self._same_step is None:
            super().forward(t)
        else:
            self._same_step.write(self, t)
        if self.reward_at_t:
            self._move_reward(t)

    def seed(self, seed: int) -> Self:  # type: ignore[override]
        """Another root seed from the next reset on; returns the agent."""
        super().seed(seed)
        if self._same_step is not None:
            self._same_step.seed(seed)
        return self

    def of_size(self, num_envs: int) -> Self:
        """Other environments like these, another number of them."""
        return self._construction(batch_size=num_envs)()

    def get_observation_space(self) -> Space:
        """The observation space of one environment."""
        return self.observation_space

    def get_action_space(self) -> Space:
        """The action space of one environment."""
        return self.action_space

    def get_obs_and_actions_sizes(self) -> tuple[Any, Any]:
        """Sizes of an observation and of an action; of a Discrete space, the number of values."""
        return size_of(self.observation_space), size_of(self.action_space)

    def is_continuous_action(self) -> bool:
        """Whether the action space is a Box."""
        return isinstance(self.action_space, Box)

    def is_discrete_action(self) -> bool:
        """Whether the action space is Discrete."""
        return isinstance(self.action_space, Discrete)

    def is_continuous_state(self) -> bool:
        """Whether the observation space is a Box."""
        return isinstance(self.observation_space, Box)

    def is_discrete_state(self) -> bool:
        """Whether the observation space is Discrete."""
        return isinstance(self.observation_space, Discrete)

    def _rename(self, input_string: str, output_string: str) -> None:
        self.input, self.output = input_string, output_string
        self.reads = tuple(input_string + name.removeprefix("action") for name in self.reads)
        self._layout = {output_string + name.removeprefix("env/"): facts for name, facts in self._layout.items()}
        self.writes = tuple(self._layout)

    def _move_reward(self, t: int) -> None:
        """Puts the reward and the return of row ``t`` into the row before, too; the reward of row ``t`` is then 0."""
        reward, total = f"{self.output}reward", f"{self.output}cumulated_reward"
        if t > 0:
            self.set((reward, t - 1), self.get((reward, t)))
            self.set((total, t - 1), self.get((total, t)))
            self.set((reward, t), self.get((reward, t)).new_zeros(self.num_envs))


class ParallelGymAgent(GymAgent):
    """Environments of gymnasium side by side: see :class:`GymAgent`."""
