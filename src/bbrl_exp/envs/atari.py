"""Atari games with the standard preprocessing, one by one or many at once: ``Atari/<Game>-v5`` for ``ALE/<Game>-v5``.

An observation is a stack of grey frames, uint8 ``[stack_size, screen_size, screen_size]``; an action lasts
``frame_skip`` frames, the brighter of the last two counts at each pixel, and an episode begins with a random number of
frames without action (V. Mnih et al., 2015; M. Machado et al., 2018). Rewards are the game's own, not clipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TimeLimit
from numpy.typing import NDArray

from bbrl_exp.arguments import Count, CountOrZero, FromZeroToOne, check_fields
from bbrl_exp.envs.action_log import MOST_STEPS, ActionLog
from bbrl_exp.envs.episode_state import episodes_of, packed
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError, did_you_mean
from bbrl_exp.seeding import EpisodeSeeds

_ALE = "ALE/"


def register_atari() -> None:
    """Makes ``Atari/<Game>-v5`` known to gymnasium for every game of ale-py, which has been imported."""
    for env_id, entry in list(gymnasium.registry.items()):
        name = f"Atari/{env_id.removeprefix(_ALE)}"
        if env_id.startswith(_ALE) and name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point=f"{__name__}:atari_game",
                vector_entry_point=f"{__name__}:AtariBatch",
                kwargs={"game": entry.kwargs["game"]},
            )


@dataclass(frozen=True)
class AtariSettings:
    """How games are shown and played, one by one or many at once: what ``env.kwargs`` may have.

    Attributes:
        frame_skip: frames that an action lasts.
        screen_size: height and width of an observation, in pixels.
        stack_size: number of frames in an observation; before the first one they are black.
        noop_max: an episode begins with 1 to this many frames without action, or with none if it is 0.
        terminal_on_life_loss: whether an episode ends with a life.
        repeat_action_probability: probability at each frame that the action before is repeated ("sticky actions").
        full_action_space: all 18 actions instead of those that the game knows.
        max_num_frames_per_episode: frames after which an episode is truncated, those without action included.
        num_threads: threads that step the games of :class:`AtariBatch`.

    Raises:
        ConfigurationError: a number out of its range.
    """

    frame_skip: Count = 4
    screen_size: Count = 84
    stack_size: Count = 4
    noop_max: CountOrZero = 30
    terminal_on_life_loss: bool = False
    repeat_action_probability: FromZeroToOne = 0.25
    full_action_space: bool = False
    max_num_frames_per_episode: Count = 108_000
    num_threads: Count = 1

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> AtariSettings:
        """Those of keyword arguments.

        Raises:
            ConfigurationError: one that does not exist, or a number out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in known:
                near = did_you_mean(name, known)
                raise ConfigurationError(f"Atari games have no argument '{name}'; possible: {', '.join(known)}{near}")
        return cls(**arguments)

    @property
    def max_episode_steps(self) -> int:
        """Steps after which an episode is over in any case."""
        return math.ceil(self.max_num_frames_per_episode / self.frame_skip)


def atari_game(
    game: str, render_mode: Literal["human", "rgb_array"] | None = None, **settings: Any
) -> gymnasium.Env[NDArray[np.uint8], np.int64]:
    """One game.

    Args:
        game: name of its ROM, ``"pong"``.
        render_mode: as gymnasium has it.
        settings: see :class:`AtariSettings`.

    Raises:
        ConfigurationError: a setting that does not exist, or is out of its range.
    """
    from ale_py.env import AtariEnv

    chosen = AtariSettings.of(settings)
    _silence()
    env = AtariEnv(
        game,
        frameskip=1,
        repeat_action_probability=chosen.repeat_action_probability,
        full_action_space=chosen.full_action_space,
        max_num_frames_per_episode=chosen.max_num_frames_per_episode,
        render_mode=render_mode,
    )
    screen = AtariPreprocessing(
        env,
        noop_max=chosen.noop_max,
        frame_skip=chosen.frame_skip,
        screen_size=chosen.screen_size,
        terminal_on_life_loss=chosen.terminal_on_life_loss,
    )
    shown = FrameStackObservation(screen, chosen.stack_size, padding_type="zero")
    return TimeLimit(shown, chosen.max_episode_steps)  # which says the limit; the game ends by then in any case


def _silence() -> None:
    """Errors only: ale-py greets each process."""
    from ale_py import ALEInterface, LoggerMode

    ALEInterface.setLoggerMode(LoggerMode.Error)


class AtariBatch(gymnasium.vector.VectorEnv[NDArray[np.uint8], NDArray[np.int64], NDArray[np.generic]]):
    """Many games stepped by ale-py's vectorised environment, which shows the pixels of :func:`atari_game`.

    Each episode has its own seed, made of the seed of the reset, the index of the environment and the number of the
    episode: what environment i shows depends neither on the number of environments nor on the threads. Its state is
    the seeds of the episodes that are being played and their actions, which are played once more to come back to it.

    Args:
        game: name of its ROM, ``"pong"``.
        num_envs: number B of environments.
        settings: see :class:`AtariSettings`.

    Attributes:
        max_episode_steps: steps after which an episode is over in any case.

    Raises:
        ConfigurationError: a setting that does not exist, or is out of its range.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (as gymnasium has it)

    def __init__(self, game: str, num_envs: int = 1, **settings: Any) -> None:
        from ale_py.vector_env import AtariVectorEnv

        chosen = AtariSettings.of(settings)
        _silence()
        self._games = AtariVectorEnv(
            game,
            num_envs,
            num_threads=chosen.num_threads,
            max_num_frames_per_episode=chosen.max_num_frames_per_episode,
            repeat_action_probability=chosen.repeat_action_probability,
            full_action_space=chosen.full_action_space,
            img_height=chosen.screen_size,
            img_width=chosen.screen_size,
            stack_num=chosen.stack_size,
            frameskip=chosen.frame_skip,
            noop_max=chosen.noop_max + 1,  # ale-py draws from 0 to one less
            episodic_life=chosen.terminal_on_life_loss,
            reward_clipping=False,
            use_fire_reset=False,
        )
        self.max_episode_steps = chosen.max_episode_steps
        self._has_noops = chosen.noop_max > 0
        self.num_envs = num_envs
        self.single_observation_space = self._games.single_observation_space
        self.single_action_space = self._games.single_action_space
        self.observation_space, self.action_space = self._games.observation_space, self._games.action_space
        count = np.array(len(self._games.ale.get_action_set()))
        self._leaves = [LeafSpec("action", "discrete", (), "int64", counts=count, start=np.array(0))]
        self._log: ActionLog | None = ActionLog(self._leaves, auto_reset=True)
        self._everywhere = np.ones(num_envs, np.bool_)
        self._begin(0)

    def _begin(self, seed: int) -> None:
        self._seed = seed
        self._seeds = [EpisodeSeeds(seed, "train", index) for index in range(self.num_envs)]
        self._n_episodes = np.zeros(self.num_envs, np.int64)
        self._episode_seeds = np.zeros(self.num_envs, np.int64)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._shown: NDArray[np.uint8] | None = None
        if self._log is not None:
            self._log.clear()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begins an episode everywhere: observations ``[B, stack_size, screen_size, screen_size]``."""
        self._begin(self._seed if seed is None else seed)
        return self._begin_episodes(self._everywhere)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Steps all environments; one whose episode is over begins the next one, whatever its action is."""
        observations, rewards, terminated, truncated, info = self._games.step(actions)
        if self._log is not None:
            self._log.append(actions.tolist())
        self._lengths += 1
        if self._ended.any():
            # The game has begun an episode there by itself, from a stream that nothing can bring back.
            begins = self._ended
            observations, info = self._begin_episodes(begins)
            rewards, terminated, truncated = (np.where(begins, 0, row) for row in (rewards, terminated, truncated))
        terminated, truncated = np.asarray(terminated, np.bool_), np.asarray(truncated, np.bool_)
        self._ended = terminated | truncated
        self._shown = observations
        return observations, rewards.astype(np.float64), terminated, truncated, info

    def _begin_episodes(self, begins: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        if self._log is not None:
            self._log.trim(self._lengths)
        self._lengths[begins] = 0
        waiting = begins
        while waiting.any():
            for index in np.flatnonzero(waiting).tolist():
                self._episode_seeds[index] = self._seeds[index](int(self._n_episodes[index]))
            self._n_episodes += waiting
            shown, info = self._games.reset(seed=self._episode_seeds[waiting], options={"reset_mask": waiting})
            # The draw from 0 to noop_max is repeated where it is 0, so that all from 1 to noop_max are as likely.
            waiting = begins & (info["episode_frame_number"] == 0) & self._has_noops
        self._shown = shown
        return shown, info

    def forget_actions(self) -> None:
        """Keeps no actions from now on, and has no :meth:`run_state` any more."""
        self._log = None

    def run_state(self) -> dict[str, Any]:
        """What leads other games to where these are: arrays and plain Python.

        Raises:
            BbrlExpError: the actions are not kept.
        """
        if self._log is None:
            raise BbrlExpError("the actions of the games are not kept, so that they cannot be resumed")
        episodes = self._log.episodes(self._lengths)
        return {
            "seed": self._seed,
            "next_episode": self._n_episodes.copy(),
            "episode_seed": self._episode_seeds.copy(),
            "ended": self._ended.copy(),
            "n_steps": self._lengths.copy(),
            "n_actions": np.array([len(actions[0]) for actions in episodes], np.int64),
            "actions": packed(self._leaves, episodes),
            "observation": None if self._shown is None else self._shown.copy(),
        }

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Plays the episodes of :meth:`run_state` once more, so that all of them arrive at the same time.

        Raises:
            BbrlExpError: an episode is too long to be played once more, or the games show something else afterwards.
        """
        self._begin(state["seed"])
        if (expected := state["observation"]) is None:
            return
        if (state["n_actions"] < state["n_steps"]).any():
            raise BbrlExpError(f"an episode of more than {MOST_STEPS:,} steps cannot be played once more")
        episodes = episodes_of(state)
        n_steps = max(len(actions) for (actions,) in episodes)
        waits = n_steps - state["n_actions"]  # steps before the episode begins
        played = np.zeros((n_steps, self.num_envs), np.int64)
        for index, (actions,) in enumerate(episodes):
            played[n_steps - len(actions) :, index] = actions
        seeds = state["episode_seed"]
        shown, _ = self._games.reset(seed=seeds)
        for step in range(n_steps + 1):
            if step and (begins := waits == step).any():
                shown, _ = self._games.reset(seed=seeds[begins], options={"reset_mask": begins})
            if step < n_steps:
                shown = self._games.step(played[step])[0]
        if shown.tobytes() != expected.tobytes():
            raise BbrlExpError(
                f"games show other frames than they did after {n_steps} actions were played once more: they are not "
                "deterministic, and this run cannot be resumed exactly"
            )
        if self._log is not None:
            self._log.restore(episodes)
        self._n_episodes = state["next_episode"].copy()
        self._episode_seeds = seeds.copy()
        self._lengths = state["n_steps"].copy()
        self._ended = state["ended"].copy()
        self._shown = shown

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads of the games."""
        del self._games
