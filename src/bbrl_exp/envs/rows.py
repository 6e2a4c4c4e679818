"""One row of every ``env/`` variable: its layout, and the book-keeping that every way of stepping shares.

No torch here: worker processes import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import ConfigurationError, NonFiniteError

Row = NDArray[Any]
Index = int | NDArray[np.bool_]
RowLayout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]

_EPISODE_VARIABLES = {
    "env/reward": "float32",
    "env/terminated": "bool",
    "env/truncated": "bool",
    "env/done": "bool",
    "env/timestep": "int64",
    "env/initial_state": "bool",
    "env/cumulated_reward": "float32",
}
# Below this sum of squares no element can overflow float32, whose largest number is 3.4e38.
_SURELY_FINITE = 1e76


def row_layout(observations: Sequence[LeafSpec], info: Mapping[str, str], batch_size: int) -> RowLayout:
    """Name → (shape ``[B, …]``, dtype) of each variable, in the order in which rows are handed around."""
    layout: RowLayout = {leaf.name: ((batch_size, *leaf.shape), np.dtype(leaf.dtype)) for leaf in observations}
    layout |= {name: ((batch_size,), np.dtype(dtype)) for name, dtype in _EPISODE_VARIABLES.items()}
    layout |= {f"env/info/{key}": ((batch_size,), np.dtype(dtype)) for key, dtype in info.items()}
    return layout


def info_dtypes(info_keys: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Info key → dtype name; a mere sequence of keys means float32.

    Raises:
        ConfigurationError: a dtype that is no number and no bool.
    """
    if isinstance(info_keys, str):
        raise ConfigurationError(f"info_keys='{info_keys}': expected a list of keys, or a mapping from key to dtype")
    chosen = dict(info_keys) if isinstance(info_keys, Mapping) else dict.fromkeys(info_keys, "float32")
    for key, dtype in chosen.items():
        try:
            usable = np.dtype(dtype).kind in "biuf" and np.dtype(dtype).itemsize <= 8
        except TypeError:
            usable = False
        if not usable:
            raise ConfigurationError(f"info_keys: '{key}' has dtype '{dtype}'; possible: float32, int64, bool, …")
    return chosen


class EpisodeRows:
    """The episode variables of ``count`` environments, from ``env/reward`` to ``env/cumulated_reward``.

    Whoever steps the environments writes observations and infos into the rows and ``reward``, ``terminated`` and
    ``truncated`` here, tells what begins and what has ended, and calls :meth:`write`, which does the rest.

    Args:
        observations: the leaves of the observation.
        n_info: number of info variables, the last of the rows.
        count: number of environments.
        first: index in the batch of the first one, for messages.

    Attributes:
        info_start: position of the first info among the rows.
    """

    def __init__(self, observations: Sequence[LeafSpec], n_info: int, count: int, first: int) -> None:
        self._names = [leaf.name for leaf in observations]
        self._first = first
        self._flat_totals = np.zeros(2 * count)
        self.reward, self.cumulated_reward = self._flat_totals.reshape(2, count)
        self.terminated = np.zeros(count, np.bool_)
        self.truncated = np.zeros(count, np.bool_)
        self.initial_state = np.zeros(count, np.bool_)
        self._timestep = np.zeros(count, np.int64)
        self._advance = np.ones(count, np.int64)
        # x * 0 is 0 for finite numbers only, so that one dot product tests a row without allocating anything.
        self._zeros = [
            (index, np.zeros((count, *leaf.shape), leaf.dtype))
            for index, leaf in enumerate(observations)
            if np.dtype(leaf.dtype).kind == "f"
        ]
        n_leaves = len(observations)
        self._episode = slice(n_leaves, n_leaves + len(_EPISODE_VARIABLES))
        self.info_start = self._episode.stop
        self._shown = [*range(n_leaves), *range(self.info_start, self.info_start + n_info)]
        self._final: dict[int, Row] = {}

    def begin(self, index: Index) -> None:
        """This row is the first one of an episode of the environments ``index``."""
        self._advance[index] = 1
        self._timestep[index] = -1
        self.reward[index] = 0.0
        self.cumulated_reward[index] = 0.0
        self.terminated[index] = False
        self.truncated[index] = False
        self.initial_state[index] = True

    def keep_final(self, rows: Sequence[Row], index: Index) -> None:
        """This row is the last one of an episode and may have to be repeated."""
        for shown in self._shown:
            if shown not in self._final:
                self._final[shown] = np.zeros_like(rows[shown])
            self._final[shown][index] = rows[shown][index]

    def repeat_final(self, rows: Sequence[Row], index: Index) -> None:
        """This row repeats the last one of the episode: reward 0, and everything else as it was."""
        self.reward[index] = 0.0
        self._advance[index] = 0
        for shown in self._shown:
            rows[shown][index] = self._final[shown][index]

    def write(self, rows: Sequence[Row], t: int) -> None:
        """Counts the step, checks that reward and observation are finite, and fills the rows of the episode variables.

        Raises:
            NonFiniteError: a NaN or an infinity, also one that becomes one in float32.
        """
        np.add(self._timestep, self._advance, self._timestep)
        np.add(self.cumulated_reward, self.reward, self.cumulated_reward)
        for leaf, zeros in self._zeros:
            if np.vdot(rows[leaf], zeros) != 0.0:
                self._refuse(self._names[leaf], rows[leaf], t)
        # vdot and not dot, which would warn of the overflow that is looked for here.
        if not np.vdot(self._flat_totals, self._flat_totals) <= _SURELY_FINITE:
            self._check_totals(t)
        reward, terminated, truncated, done, timestep, initial_state, cumulated_reward = rows[self._episode]
        reward[...] = self.reward
        terminated[...] = self.terminated
        truncated[...] = self.truncated
        np.logical_or(terminated, truncated, done)
        timestep[...] = self._timestep
        initial_state[...] = self.initial_state
        cumulated_reward[...] = self.cumulated_reward

    def _check_totals(self, t: int) -> None:
        for name, values in (("env/reward", self.reward), ("env/cumulated_reward", self.cumulated_reward)):
            with np.errstate(over="ignore", invalid="ignore"):
                stored = values.astype(np.float32)
            if not np.isfinite(stored).all():
                self._refuse(name, stored, t, values)

    def _refuse(self, name: str, stored: Row, t: int, values: Row | None = None) -> NoReturn:
        where = tuple(np.argwhere(~np.isfinite(stored))[0])
        value = (stored if values is None else values)[where]
        raise NonFiniteError(name, self._first + int(where[0]), t, value.item())
