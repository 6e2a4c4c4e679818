"""Environments stepped one after the other in this process, their rows written straight into the given memory.

No torch here: a worker process runs this very kernel on its slice of the batch, so that both give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from bbrl_exp.envs.action_log import MOST_STEPS, ActionLog
from bbrl_exp.envs.batch import BatchSetup
from bbrl_exp.envs.episode_state import NOT_BEGUN, episodes_of, packed
from bbrl_exp.envs.make import Env, close_env
from bbrl_exp.envs.rows import UnseenKeys, episode_rows, flag_of, put_info, reward_of, row_layout, value_of
from bbrl_exp.envs.spaces import assembler, check_structure, flattener
from bbrl_exp.envs.spec import MisfitError
from bbrl_exp.errors import BbrlExpError, ends_silently, user_code_error
from bbrl_exp.seeding import EpisodeSeeds

Rows = Sequence[NDArray[Any]]


class ScalarKernel:
    """Steps environments ``first`` … ``first + len(envs) - 1`` of a batch.

    Each reset is seeded from (seed, role, index of the environment, number of its episode). Episodes are still
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
        spaces = envs[0].observation_space, envs[0].action_space
        self._leaves, self._action_leaves = setup.leaves(spaces)
        self._dtypes = [np.dtype(leaf.dtype) for leaf in self._leaves]
        self._flatten = flattener(envs[0].observation_space)
        self._assemble = assembler(envs[0].action_space)
        self._info_keys = list(setup.info)
        self._unseen_keys = UnseenKeys(setup.info, setup.recipe.name)
        self._rows = episode_rows(self._leaves, len(setup.info), len(envs), first)
        # The common case is an observation of one array.
        self._plain = (self._leaves[0].shape, self._dtypes[0]) if len(self._leaves) == 1 else (None, None)
        self._earned = [0.0] * len(envs)
        self._steps = [env.step for env in envs]
        self._ended = [False] * len(envs)
        self._log: ActionLog | None = ActionLog(self._action_leaves, self._auto_reset)
        self._shown = self._new_rows()[: len(self._leaves)]  # copied from the rows: environments may share an array
        self._episode_seeds = [NOT_BEGUN] * len(envs)
        self.seed(setup.seed)

    def seed(self, seed: int) -> None:
        self._seed = int(seed)
        self._seeds = [EpisodeSeeds(seed, self._setup.role, self._first + i) for i in range(len(self.envs))]
        self._episodes = [0] * len(self.envs)

    def reset(self, t: int, rows: Rows) -> None:
        if self._log is not None:
            self._log.clear()
        i = 0
        try:
            for i in range(len(self.envs)):
                self._begin_episode(i, rows)
            self._rows.write(rows, t)
            self._keep_shown(rows)
        except BaseException as error:
            self._fail(error, i, f"at t={t}")

    def step(self, t: int, actions: Rows, rows: Rows) -> None:
        record, steps, ended, log = self._rows, self._steps, self._ended, self._log
        earned, first_row, (shape, dtype) = self._earned, rows[0], self._plain
        given = self._assemble(iter(actions))
        if log is not None and (self._auto_reset or not all(ended)):
            log.append(given if log.takes_numbers else [values.copy() for values in actions])
        i = 0
        try:
            for i, action in enumerate(given):
                if ended[i]:
                    earned[i] = 0.0
                    if self._auto_reset:
                        self._begin_episode(i, rows)
                    else:
                        record.repeat_final(rows, i)
                    continue
                observation, reward, terminated, truncated, info = steps[i](action)
                earned[i] = reward if type(reward) is float else reward_of(reward)
                # Each row is copied before the next environment steps: some share the array that they return.
                if type(observation) is ndarray and observation.shape == shape and observation.dtype is dtype:
                    first_row[i] = observation
                else:
                    self._write_observation(i, observation, rows)
                if self._info_keys:
                    self._write_info(i, info, rows)
                if (terminated is not False or truncated is not False) and self._ends(i, terminated, truncated):
                    ended[i] = True
                    self._unseen_keys.warn_of(info)
                    if not self._auto_reset:
                        record.keep_final(rows, i)
            record.reward[:] = earned
            record.write(rows, t)
            if log is not None:
                self._keep_shown(rows)
        except BaseException as error:
            self._fail(error, i, f"at t={t}")

    def _ends(self, i: int, terminated: Any, truncated: Any) -> bool:
        is_terminated, is_truncated = flag_of(terminated, "env/terminated"), flag_of(truncated, "env/truncated")
        self._rows.terminated[i], self._rows.truncated[i] = is_terminated, is_truncated
        return is_terminated or is_truncated

    def forget_actions(self) -> None:
        self._log = None

    def state(self) -> dict[str, Any]:
        """For each environment the seed of its episode and its actions."""
        if self._log is None:
            raise BbrlExpError(f"the actions of {self._setup.recipe.name} are not kept, so that it cannot be resumed")
        episodes = self._log.episodes(self._rows.lengths)
        return {
            "seed": self._seed,
            "next_episode": np.array(self._episodes, np.int64),
            "episode_seed": np.array(self._episode_seeds, np.int64),
            "ended": np.array(self._ended, np.bool_),
            "n_actions": np.array([len(actions[0]) for actions in episodes], np.int64),
            "actions": packed(self._action_leaves, episodes),
            "observation": {leaf.name: row.copy() for leaf, row in zip(self._leaves, self._shown, strict=True)},
            **self._rows.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Every episode is begun again and its actions are repeated."""
        for i, n_steps in enumerate(state["timestep"].tolist()):
            if state["n_actions"][i] < n_steps:
                raise BbrlExpError(
                    f"environment {self._first + i} of {self._setup.recipe.name} was in step {n_steps:,} of its "
                    f"episode, and the actions of an episode are kept up to {MOST_STEPS:,} steps: the run cannot be "
                    "resumed from here; a new one can begin from its policy (init_from=<folder>)"
                )
        self.seed(state["seed"])
        self._episodes = state["next_episode"].tolist()
        self._episode_seeds = state["episode_seed"].tolist()
        self._ended = state["ended"].tolist()
        self._rows.load_state(state)
        episodes = episodes_of(state)
        if self._log is not None:
            self._log.restore(episodes)
        rows = self._new_rows()
        for i, seed in enumerate(self._episode_seeds):
            if seed == NOT_BEGUN:
                continue
            n_actions = len(episodes[i][0])
            try:
                outcome = self._replay(i, seed, self._assemble(iter(episodes[i])), rows)
            except BaseException as error:
                self._fail(error, i, f"while {n_actions} actions were replayed")
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
        self._keep_shown(rows)

    def _replay(self, i: int, seed: int, actions: Sequence[Any], rows: Rows) -> tuple[bool, bool, bool, float]:
        """Plays an episode, as far as it goes, to its last row: (whether it has ended, the two ends, its return)."""
        observation, info = self.envs[i].reset(seed=seed)
        is_terminated, is_truncated, total, n_played = False, False, 0.0, 0
        for action in actions:
            if is_terminated or is_truncated:
                break
            observation, earned, terminated, truncated, info = self._steps[i](action)
            is_terminated, is_truncated = flag_of(terminated, "env/terminated"), flag_of(truncated, "env/truncated")
            total += reward_of(earned)
            n_played += 1
        self._write_observation(i, observation, rows)
        if self._info_keys:
            self._write_info(i, info, rows)
        is_over = (is_terminated or is_truncated) and n_played == len(actions)
        return is_over, is_terminated, is_truncated, total

    def _keep_shown(self, rows: Rows) -> None:
        for shown, row in zip(self._shown, rows, strict=False):
            shown[...] = row

    def _new_rows(self) -> list[NDArray[Any]]:
        layout = row_layout(self._leaves, self._setup.info, len(self.envs))
        return [np.zeros(shape, dtype) for shape, dtype in layout.values()]

    def close(self) -> None:
        envs, self.envs, self._steps = self.envs, [], []
        for env in envs:
            close_env(env, self._setup.recipe.name)

    def _begin_episode(self, i: int, rows: Rows) -> None:
        episode = self._episodes[i]
        self._episodes[i] += 1
        self._episode_seeds[i] = self._seeds[i](episode)
        observation, info = self.envs[i].reset(seed=self._episode_seeds[i])
        self._ended[i] = False
        if self._log is not None:
            self._log.trim(self._rows.lengths)
        self._rows.begin(i)
        self._write_observation(i, observation, rows)
        if self._info_keys:
            self._write_info(i, info, rows)

    def _write_observation(self, i: int, observation: Any, rows: Rows) -> None:
        try:
            values = self._flatten(observation)
        except (LookupError, TypeError):
            check_structure(self.envs[i].observation_space, observation)
            raise
        for row, value, leaf, dtype in zip(rows, values, self._leaves, self._dtypes, strict=False):
            if type(value) is ndarray and value.shape == leaf.shape and value.dtype is dtype:
                row[i] = value
            else:
                row[i] = value_of(value, leaf.shape, dtype, leaf.name)

    def _write_info(self, i: int, info: Mapping[str, Any], rows: Rows) -> None:
        self._unseen_keys.see(info)
        for key, row in zip(self._info_keys, rows[self._rows.info_start :], strict=True):
            put_info(row, i, key, info.get(key, 0))

    def _fail(self, error: BaseException, i: int, where: str) -> NoReturn:
        """Raises the error of an environment with its place."""
        if isinstance(error, MisfitError):
            i = i if error.index is None else error.index
            raise error.at(self._first + i, self._episodes[i] - 1, where) from error.__cause__
        error.add_note(f"in environment {self._first + i}, episode {self._episodes[i] - 1}, {where}")
        if ends_silently(error):
            raise user_code_error(error, "") from error
        raise error
