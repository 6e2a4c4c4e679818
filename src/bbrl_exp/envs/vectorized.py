"""The environment's own vectorised implementation: B environments stepped by one call.

Its physics are those of the single environment, but all its resets draw from one stream of random numbers: a run
repeats itself by seed, and the episodes of environment i depend on the batch size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec as RegisteredEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from bbrl_exp.arguments import is_integer
from bbrl_exp.envs.batch import BatchSetup
from bbrl_exp.envs.make import close_env
from bbrl_exp.envs.plain_attributes import NotPlainError, load_attributes, save_attributes
from bbrl_exp.envs.rows import ManyEpisodes, UnseenKeys, column_of, row_layout, value_of
from bbrl_exp.envs.spaces import batch_assembler, check_structure, flattener
from bbrl_exp.envs.spec import MisfitError
from bbrl_exp.errors import BbrlExpError, ConfigurationError, ends_silently, user_code_error
from bbrl_exp.seeding import EpisodeSeeds

Rows = Sequence[NDArray[Any]]


@runtime_checkable
class Replayable(Protocol):
    """Vectorised environments that play their episodes once more to come back; of others the attributes are saved."""

    def run_state(self) -> dict[str, Any]:
        """What leads others like them to where they are: arrays and plain Python."""

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`run_state` gave."""

    def forget_actions(self) -> None:
        """Keeps nothing for :meth:`run_state` from now on."""


class VectorizedKernel:
    """Steps the vectorised implementation that an environment is registered with.

    It resets a finished environment in the step after the last one. Without automatic reset this also happens, unseen,
    behind the frozen rows.

    Raises:
        ConfigurationError: there is none, there are wrappers, or it resets in another way.
    """

    def __init__(self, setup: BatchSetup) -> None:
        self._vector_env = _make_vector_env(setup)
        if type(self._vector_env.action_space) is gymnasium.spaces.MultiDiscrete:
            # Actions are checked before they come here; a second check would take a sixth of a small step.
            self._vector_env.action_space.contains = _was_checked  # type: ignore[method-assign]
        self._setup = setup
        self._leaves, _ = setup.leaves(self.spaces)
        self._flatten = flattener(self._vector_env.single_observation_space)
        self._assemble = batch_assembler(self._vector_env.single_action_space)
        self._info_keys = list(setup.info)
        self._unseen_keys = UnseenKeys(setup.info, setup.recipe.name)
        self._rows = ManyEpisodes(self._leaves, len(setup.info), setup.batch_size, 0)
        self._ended = np.zeros(setup.batch_size, np.bool_)
        self._episodes = np.zeros(setup.batch_size, np.int64)
        self._done = list(row_layout(self._leaves, setup.info, setup.batch_size)).index("env/done")
        self.seed(setup.seed)

    @property
    def spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        """The observation and the action space of one environment."""
        return self._vector_env.single_observation_space, self._vector_env.single_action_space

    @property
    def max_episode_steps(self) -> int | None:
        """The time limit in steps, None if there is none: that of the environments themselves, or of their id."""
        own = getattr(self._vector_env, "max_episode_steps", None)
        if own is not None and is_integer(own):
            return int(own)
        spec = self._vector_env.spec
        return None if spec is None else spec.kwargs.get("max_episode_steps", spec.max_episode_steps)

    @property
    def replays_actions(self) -> bool:
        """Whether the environments come back to where they were by playing their episodes once more."""
        return isinstance(self._vector_env, Replayable)

    def seed(self, seed: int) -> None:
        self._seed = int(seed)
        self._n_resets = 0

    def reset(self, t: int, rows: Rows) -> None:
        seed = EpisodeSeeds(self._seed, self._setup.role, 0)(self._n_resets)
        self._n_resets += 1
        try:
            observation, info = self._vector_env.reset(seed=seed)
            self._ended.fill(False)
            self._episodes += 1
            record = self._rows
            record.reward = np.zeros(self._setup.batch_size)
            record.terminated = record.truncated = np.zeros(self._setup.batch_size, np.bool_)
            record.begin_where(~self._ended)
            self._write(observation, info, rows)
            record.write(rows, t)
        except BaseException as error:
            self._fail(error, t)

    def step(self, t: int, actions: Rows, rows: Rows) -> None:
        record, ended, count = self._rows, self._ended, self._setup.batch_size
        flags = record.terminated, record.truncated
        try:
            observation, reward, terminated, truncated, info = self._vector_env.step(self._assemble(iter(actions)))
            record.reward = column_of(reward, count, "env/reward")
            record.terminated = column_of(terminated, count, "env/terminated")
            record.truncated = column_of(truncated, count, "env/truncated")
            self._write(observation, info, rows)
            if np.count_nonzero(ended):
                if self._setup.auto_reset:
                    record.begin_where(ended)
                    self._episodes += ended
                else:
                    record.reward = np.array(record.reward)
                    record.terminated = np.where(ended, flags[0], record.terminated)
                    record.truncated = np.where(ended, flags[1], record.truncated)
                    record.repeat_final(rows, ended)
            record.write(rows, t)
        except BaseException as error:
            self._fail(error, t)
        done = rows[self._done].copy()
        if not self._setup.auto_reset and np.count_nonzero(done) != np.count_nonzero(ended):
            record.keep_final(rows, done & ~ended)
        self._ended = done
        if self._info_keys and np.count_nonzero(done):
            self._unseen_keys.warn_of(key for key in info if not str(key).startswith("_"))

    def forget_actions(self) -> None:
        """Only those that play their episodes once more keep some."""
        if isinstance(self._vector_env, Replayable):
            self._vector_env.forget_actions()

    def state(self) -> dict[str, Any]:
        """What is replayed, or else the attributes of the environments themselves."""
        return {
            "seed": self._seed,
            "n_resets": self._n_resets,
            "episodes": self._episodes.copy(),
            "ended": self._ended.copy(),
            "final": {position: row.copy() for position, row in self._rows.final.items()},
            **self._rows.state(),
            "attributes": self._environment_state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._load_environment_state(state["attributes"])
        self._seed, self._n_resets = state["seed"], state["n_resets"]
        self._ended = state["ended"].copy()
        self._episodes = state.get("episodes", np.zeros_like(self._episodes)).copy()  # not kept by version 0.1.0
        self._rows.final = state["final"]
        self._rows.load_state(state)

    def close(self) -> None:
        if not self._vector_env.closed:
            close_env(self._vector_env, self._setup.recipe.name)

    def _environment_state(self) -> dict[str, Any]:
        if isinstance(self._vector_env, Replayable):
            return self._vector_env.run_state()
        try:
            return save_attributes(self._vector_env)
        except NotPlainError as error:
            raise self._not_resumable(error) from error

    def _load_environment_state(self, state: Mapping[str, Any]) -> None:
        if isinstance(self._vector_env, Replayable):
            self._vector_env.load_run_state(state)
            return
        self._vector_env.reset(seed=0)  # some make their attributes there
        try:
            load_attributes(self._vector_env, state)
        except NotPlainError as error:
            raise self._not_resumable(error) from error

    def _not_resumable(self, error: NotPlainError) -> BbrlExpError:
        return BbrlExpError(
            f"stepping=vectorized: the vectorised {self._setup.recipe.name} cannot be checkpointed for its attribute "
            f"{error}; possible: attributes that are numbers, arrays or numpy generators; stepping scalar or workers"
        )

    def _write(self, observation: Any, info: dict[str, Any], rows: Rows) -> None:
        try:
            leaves = self._flatten(observation)
        except (LookupError, TypeError):
            check_structure(self._vector_env.single_observation_space, observation)
            raise
        for leaf, values, row in zip(self._leaves, leaves, rows, strict=False):
            is_fitting = type(values) is np.ndarray and values.dtype is row.dtype and values.shape == row.shape
            row[...] = values if is_fitting else value_of(values, row.shape, row.dtype, leaf.name)
        if not self._info_keys:
            return
        self._unseen_keys.see(info)
        for key, row in zip(self._info_keys, rows[self._rows.info_start :], strict=True):
            values = info.get(key)
            row[...] = 0 if values is None else column_of(values, len(row), f"env/info/{key}")

    def _fail(self, error: BaseException, t: int) -> NoReturn:
        """Raises the error of the environments with its place."""
        if isinstance(error, MisfitError):
            index = error.index
            everywhere = f"0 … {self._setup.batch_size - 1}"
            environment, episode = (everywhere, self._n_resets) if index is None else (index, self._episodes[index] - 1)
            raise error.at(environment, episode, f"at t={t}") from error.__cause__
        error.add_note(f"in the vectorised environments 0 … {self._setup.batch_size - 1}, at t={t}")
        if ends_silently(error):
            raise user_code_error(error, "") from error
        raise error


def _was_checked(x: Any) -> bool:
    return True


def _make_vector_env(setup: BatchSetup) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    recipe = setup.recipe
    if not isinstance(recipe.source, RegisteredEnv) or recipe.source.vector_entry_point is None:
        raise ConfigurationError(
            f"stepping=vectorized: {recipe.name} has no vectorised implementation; possible: scalar, workers"
        )
    if recipe.wrappers:
        raise ConfigurationError(
            f"stepping=vectorized: the vectorised {recipe.name} takes no wrappers; possible: scalar, workers"
        )
    with recipe.errors_explained():
        vector_env = gymnasium.make_vec(
            recipe.source, setup.batch_size, vectorization_mode="vector_entry_point", **recipe.kwargs
        )
    recipe.check_wrappers(vector_env)
    if vector_env.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
        close_env(vector_env, recipe.name)
        raise ConfigurationError(
            f"stepping=vectorized: the vectorised {recipe.name} does not reset in the step after the last "
            "one (NEXT_STEP); possible: scalar, workers"
        )
    return vector_env
