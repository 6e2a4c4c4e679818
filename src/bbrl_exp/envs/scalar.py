"""Environments stepped one after the other in this process, their rows written straight into the given memory.

No torch here: a worker process runs this very kernel on its slice of the batch, so that both give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from bbrl_exp.envs.make import Env
from bbrl_exp.envs.plan import BatchPlan
from bbrl_exp.envs.rows import episode_rows
from bbrl_exp.envs.spaces import assembler, flattener, space_leaves
from bbrl_exp.envs.spec import SpaceMismatchError
from bbrl_exp.seeding import EpisodeSeeds

Rows = Sequence[NDArray[Any]]


class ScalarKernel:
    """Steps environments ``first`` … ``first + len(envs) - 1`` of a batch.

    Each reset is seeded from (seed, role, index of the environment, number of its episode). Episodes go on being
    counted when everything is reset, so that a second recording does not repeat the first one.

    Args:
        envs: the environments, which have equal spaces.
        plan: the whole batch.
        first: index in the batch of the first environment.
    """

    def __init__(self, envs: Sequence[Env], plan: BatchPlan, first: int = 0) -> None:
        self.envs = list(envs)
        self._first = first
        self._role = plan.role
        self._auto_reset = plan.auto_reset
        self._leaves = space_leaves(envs[0].observation_space, "env/env_obs")
        self._dtypes = [np.dtype(leaf.dtype) for leaf in self._leaves]
        self._flatten = flattener(envs[0].observation_space)
        self._assemble = assembler(envs[0].action_space)
        self._info_keys = list(plan.info)
        self._rows = episode_rows(self._leaves, len(plan.info), len(envs), first)
        self._steps = [env.step for env in envs]
        self._ended = [False] * len(envs)
        self.seed(plan.seed)

    def seed(self, seed: int) -> None:
        """See :class:`~bbrl_exp.envs.plan.Kernel`."""
        self._seeds = [EpisodeSeeds(seed, self._role, self._first + i) for i in range(len(self.envs))]
        self._episodes = [0] * len(self.envs)

    def reset(self, t: int, rows: Rows) -> None:
        """See :class:`~bbrl_exp.envs.plan.Kernel`."""
        i = 0
        try:
            for i in range(len(self.envs)):
                self._begin_episode(i, rows)
        except Exception as error:
            self._note(error, i, t)
            raise
        self._rows.write(rows, t)

    def step(self, t: int, actions: Rows, rows: Rows) -> None:
        """See :class:`~bbrl_exp.envs.plan.Kernel`."""
        record, steps, ended = self._rows, self._steps, self._ended
        reward, first_row = record.reward, rows[0]
        # The common case, an observation of one array, is written here without another call.
        shape, dtype = (self._leaves[0].shape, self._dtypes[0]) if len(self._leaves) == 1 else (None, None)
        i = 0
        try:
            for i, action in enumerate(self._assemble(iter(actions))):
                if ended[i]:
                    if self._auto_reset:
                        self._begin_episode(i, rows)
                    else:
                        record.repeat_final(rows, i)
                    continue
                observation, reward[i], terminated, truncated, info = steps[i](action)
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
                    if not self._auto_reset:
                        record.keep_final(rows, i)
        except Exception as error:
            self._note(error, i, t)
            raise
        record.write(rows, t)

    def close(self) -> None:
        """See :class:`~bbrl_exp.envs.plan.Kernel`."""
        envs, self.envs, self._steps = self.envs, [], []
        for env in envs:
            env.close()

    def _begin_episode(self, i: int, rows: Rows) -> None:
        episode = self._episodes[i]
        self._episodes[i] += 1
        observation, info = self.envs[i].reset(seed=self._seeds[i](episode))
        self._ended[i] = False
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
        for key, row in zip(self._info_keys, rows[self._rows.info_start :], strict=True):
            value = info.get(key, 0)
            if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "biuf":
                self._refuse(i, f"env/info/{key}", "one number or bool", repr(value)[:80])
            row[i] = value

    def _refuse(self, i: int, name: str, expected: str, found: str) -> NoReturn:
        raise SpaceMismatchError(f"'{name}' from environment {self._first + i}: expected {expected}, found {found}")

    def _note(self, error: Exception, i: int, t: int) -> None:
        error.add_note(f"in environment {self._first + i}, episode {self._episodes[i] - 1}, at t={t}")
