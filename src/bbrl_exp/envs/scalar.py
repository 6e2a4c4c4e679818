"""Environments stepped one after the other in this process, their rows written straight into the given memory.

No torch here: a worker process runs this very kernel on its slice of the batch, so that both give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from bbrl_exp.envs.action_log import ActionLog
from bbrl_exp.envs.batch import BatchSetup
from bbrl_exp.envs.episode_state import NOT_BEGUN, episodes_of, packed
from bbrl_exp.envs.make import Env
from bbrl_exp.envs.rows import UnseenKeys, episode_rows, row_layout
from bbrl_exp.envs.spaces import assembler, flattener, space_leaves
from bbrl_exp.envs.spec import SpaceMismatchError
from bbrl_exp.errors import BbrlExpError
from bbrl_exp.seeding import EpisodeSeeds

Rows = Sequence[NDArray[Any]]


class ScalarKernel:
    """Steps environments ``first`` … ``first + len(envs) - 1`` of a batch.

    Each reset is seeded from (seed, role, index of the environment, number of its episode). Episodes go on being
    counted when everything is reset, so that a second recording does not repeat the first one.

    Args:
        envs: the environments, which have equal spaces.
        setup: the whole batch.
        first: index in the batch of the first environment.
    """

    def __init__(self, envs: Sequence[Env], setup: BatchSetup, first: int = 0) -> None:
        self.envs = list(envs)
        self._first = first = setup.first + first
        self._setup = setup
        self._auto_reset = setup.auto_reset
        self._leaves = space_leaves(envs[0].observation_space, "env/env_obs")
        self._dtypes = [np.dtype(leaf.dtype) for leaf in self._leaves]
        self._flatten = flattener(envs[0].observation_space)
        self._assemble = assembler(envs[0].action_space)
        self._info_keys = list(setup.info)
        self._unseen_keys = UnseenKeys(setup.info, setup.recipe.name)
        self._rows = episode_rows(self._leaves, len(setup.info), len(envs), first)
        self._steps = [env.step for env in envs]
        self._ended = [False] * len(envs)
        self._action_leaves = space_leaves(envs[0].action_space, "action")
        self._log = ActionLog(self._action_leaves, len(envs))
        self._keep, self._keeps_numbers = self._log.append, self._log.takes_numbers
        self._shown: list[Any] = [None] * len(envs)
        self._episode_seeds = [NOT_BEGUN] * len(envs)
        self.seed(setup.seed)

    def seed(self, seed: int) -> None:
        """See :class:`~bbrl_exp.envs.batch.Kernel`."""
        self._seed = int(seed)
        self._seeds = [EpisodeSeeds(seed, self._setup.role, self._first + i) for i in range(len(self.envs))]
        self._episodes = [0] * len(self.envs)

    def reset(self, t: int, rows: Rows) -> None:
        """See :class:`~bbrl_exp.envs.batch.Kernel`."""
        i = 0
        try:
            for i in range(len(self.envs)):
                self._begin_episode(i, rows)
        except Exception as error:
            self._note(error, i, t)
            raise
        self._rows.write(rows, t)

    def step(self, t: int, actions: Rows, rows: Rows) -> None:
        """See :class:`~bbrl_exp.envs.batch.Kernel`."""
        record, steps, ended, shown = self._rows, self._steps, self._ended, self._shown
        reward, first_row = record.reward, rows[0]
        # The common case, an observation of one array, is written here without another call.
        shape, dtype = (self._leaves[0].shape, self._dtypes[0]) if len(self._leaves) == 1 else (None, None)
        given = self._assemble(iter(actions))
        if self._auto_reset or not all(ended):
            self._keep(given if self._keeps_numbers else [values.copy() for values in actions])
        i = 0
        try:
            for i, action in enumerate(given):
                if ended[i]:
                    if self._auto_reset:
                        self._begin_episode(i, rows)
                    else:
                        record.repeat_final(rows, i)
                    continue
                observation, reward[i], terminated, truncated, info = steps[i](action)
                shown[i] = observation
                if type(observation) is ndarray and observation.shape == shape and observation.dtype is dtype:
                    first_row[i] = observation
                else:
                    self._write_observation(i, observation, rows)
                if self._info_keys:
                    self._write_info(i, info, rows)
                if terminated or truncated:
                    record.terminated[i] = terminated
                    record.truncated[i] = truncated
                    ended[i] = True
                    self._log.end(i)
                    self._unseen_keys.tell(info)
                    if not self._auto_reset:
                        record.keep_final(rows, i)
        except Exception as error:
            self._note(error, i, t)
            raise
        record.write(rows, t)

    def state(self) -> dict[str, Any]:
        """See :class:`~bbrl_exp.envs.batch.Kernel`: for each environment the seed of its episode and its actions."""
        episodes = self._log.episodes()
        rows = self._new_rows()
        for i, seed in enumerate(self._episode_seeds):
            if seed != NOT_BEGUN:
                self._write_observation(i, self._shown[i], rows)
        return {
            "seed": self._seed,
            "next_episode": np.array(self._episodes, np.int64),
            "episode_seed": np.array(self._episode_seeds, np.int64),
            "ended": np.array(self._ended, np.bool_),
            "n_actions": np.array([len(actions[0]) for actions in episodes], np.int64),
            "actions": packed(self._action_leaves, episodes),
            "observation": {leaf.name: row for leaf, row in zip(self._leaves, rows, strict=False)},
            **self._rows.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See :class:`~bbrl_exp.envs.batch.Kernel`: every episode is begun again and its actions are repeated."""
        self.seed(state["seed"])
        self._episodes = state["next_episode"].tolist()
        self._episode_seeds = state["episode_seed"].tolist()
        self._ended = state["ended"].tolist()
        self._rows.load_state(state)
        episodes = episodes_of(state)
        self._log.restore(episodes, self._ended)
        rows = self._new_rows()
        for i, seed in enumerate(self._episode_seeds):
            if seed == NOT_BEGUN:
                continue
            n_actions = len(episodes[i][0])
            try:
                outcome = self._replay(i, seed, self._assemble(iter(episodes[i])), rows)
            except Exception as error:
                error.add_note(f"in environment {self._first + i}, while {n_actions} actions were replayed")
                raise
            expected = [state[name][i] for name in ("ended", "terminated", "truncated", "cumulated_reward")]
            seen = [state["observation"][leaf.name][i] for leaf in self._leaves]
            if list(outcome) != expected or any(
                row[i].tobytes() != before.tobytes() for row, before in zip(rows, seen, strict=False)
            ):
                raise BbrlExpError(
                    f"environment {self._first + i} of {self._setup.recipe.name} is not deterministic: after replaying "
                    f"{n_actions} actions it shows other observations than it did; this run cannot be resumed exactly"
                )
            if self._ended[i] and not self._auto_reset:
                self._rows.keep_final(rows, i)

    def _replay(self, i: int, seed: int, actions: Sequence[Any], rows: Rows) -> tuple[bool, bool, bool, float]:
        """Plays an episode, as far as it goes, to its last row: (whether it has ended, the two ends, its return)."""
        observation, info = self.envs[i].reset(seed=seed)
        terminated, truncated, total, n_played = False, False, 0.0, 0
        for action in actions:
            if terminated or truncated:
                break
            observation, reward, terminated, truncated, info = self._steps[i](action)
            total += float(reward)
            n_played += 1
        self._shown[i] = observation
        self._write_observation(i, observation, rows)
        if self._info_keys:
            self._write_info(i, info, rows)
        is_over = bool(terminated or truncated)
        return is_over and n_played == len(actions), bool(terminated), bool(truncated), total

    def _new_rows(self) -> list[NDArray[Any]]:
        layout = row_layout(self._leaves, self._setup.info, len(self.envs))
        return [np.zeros(shape, dtype) for shape, dtype in layout.values()]

    def close(self) -> None:
        """See :class:`~bbrl_exp.envs.batch.Kernel`."""
        envs, self.envs, self._steps = self.envs, [], []
        for env in envs:
            env.close()

    def _begin_episode(self, i: int, rows: Rows) -> None:
        episode = self._episodes[i]
        self._episodes[i] += 1
        self._episode_seeds[i] = self._seeds[i](episode)
        observation, info = self.envs[i].reset(seed=self._episode_seeds[i])
        self._ended[i] = False
        self._shown[i] = observation
        self._log.begin(i)
        self._rows.begin(i)
        self._write_observation(i, observation, rows)
        if self._info_keys:
            self._write_info(i, info, rows)

    def _write_observation(self, i: int, observation: Any, rows: Rows) -> None:
        try:
            values = self._flatten(observation)
        except (KeyError, IndexError, TypeError) as error:
            raise SpaceMismatchError(
                f"environment {self._first + i} shows an observation without {error}; expected "
                f"{', '.join(leaf.name for leaf in self._leaves)}"
            ) from error
        for row, value, leaf, dtype in zip(rows, values, self._leaves, self._dtypes, strict=False):
            if type(value) is ndarray and value.shape == leaf.shape and value.dtype is dtype:
                row[i] = value
                continue
            array = np.asarray(value)
            if array.shape != leaf.shape:
                self._refuse(i, leaf.name, f"shape {leaf.shape}", f"shape {array.shape}")
            row[i] = self._cast(i, leaf.name, array, dtype)

    def _cast(self, i: int, name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        if array.dtype.kind in "biu" or (array.dtype.kind == "f" and dtype.kind == "f"):
            with np.errstate(over="ignore"):
                cast = array.astype(dtype)
            if dtype.kind == "f" or (cast == array).all():
                return cast
        self._refuse(i, name, dtype.name, f"{array.dtype.name} {array.tolist()}"[:80])

    def _write_info(self, i: int, info: Mapping[str, Any], rows: Rows) -> None:
        self._unseen_keys.see(info)
        for key, row in zip(self._info_keys, rows[self._rows.info_start :], strict=True):
            value = info.get(key, 0)
            if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "biuf":
                self._refuse(i, f"env/info/{key}", "one number or bool", repr(value)[:80])
            row[i] = value

    def _refuse(self, i: int, name: str, expected: str, found: str) -> NoReturn:
        raise SpaceMismatchError(f"'{name}' from environment {self._first + i}: expected {expected}, found {found}")

    def _note(self, error: Exception, i: int, t: int) -> None:
        error.add_note(f"in environment {self._first + i}, episode {self._episodes[i] - 1}, at t={t}")
