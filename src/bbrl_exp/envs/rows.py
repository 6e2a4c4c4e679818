"""One row of every ``env/`` variable: its layout, and the book-keeping that every way of stepping shares.

No torch here: worker processes import this.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.counts import Counts
from bbrl_exp.envs.finite import all_below, all_finite
from bbrl_exp.envs.spec import LeafSpec, MisfitError
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
_FLOAT32 = np.dtype(np.float32)
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
# Up to so many environments, Python numbers are faster than calls of numpy.
_FEW = 8


def row_layout(observations: Sequence[LeafSpec], info: Mapping[str, str], batch_size: int) -> RowLayout:
    """Name → (shape ``[B, …]``, dtype) of each variable, in the order in which rows are handed around."""
    layout: RowLayout = {leaf.name: ((batch_size, *leaf.shape), np.dtype(leaf.dtype)) for leaf in observations}
    layout |= {name: ((batch_size,), np.dtype(dtype)) for name, dtype in _EPISODE_VARIABLES.items()}
    layout |= {f"env/info/{key}": ((batch_size,), np.dtype(dtype)) for key, dtype in info.items()}
    return layout


def info_dtypes(info_keys: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Info key → dtype name; a mere sequence of keys means float32.

    Raises:
        ConfigurationError: a dtype that is neither a number nor a bool.
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


def value_of(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """The value of a leaf in the dtype of its space.

    Raises:
        MisfitError: another shape, something that is not a number, or a number that ``dtype`` does not have.
    """
    try:
        array = np.asarray(value)
    except Exception:
        raise MisfitError(name, f"{dtype.name} {list(shape)}", _in_words(value)) from None
    if array.shape != shape:
        raise MisfitError(name, f"shape {shape}", f"shape {array.shape}")
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "biu" or (array.dtype.kind == "f" and dtype.kind == "f"):
        with np.errstate(over="ignore"):
            cast = array.astype(dtype, copy=False)
        if dtype.kind == "f" or (cast == array).all():
            return cast
    found = f"{array.dtype.name} {array.tolist()}"[:80] if array.dtype.kind in "biuf" else _in_words(value)
    raise MisfitError(name, dtype.name, found)


def reward_of(value: Any) -> float:
    """A reward as a Python number, infinite if it is too large for one.

    Raises:
        MisfitError: it is not a number.
    """
    if isinstance(value, float):
        return float(value)
    try:
        return float(value if isinstance(value, int) else _number(value, "env/reward"))
    except OverflowError:
        return math.copysign(math.inf, value)


def flag_of(value: Any, name: str) -> bool:
    """Whether an episode has ended, from a bool or a number.

    Raises:
        MisfitError: it is neither.
    """
    return bool(value if isinstance(value, bool | np.bool_) else _number(value, name))


def _number(value: Any, name: str) -> Any:
    """An array without dimensions; ``np.asarray`` also takes the tensors of other libraries."""
    try:
        array = np.asarray(value)
    except Exception:
        raise MisfitError(name, "one number or bool", _in_words(value)) from None
    if array.ndim or array.dtype.kind not in "biuf":
        raise MisfitError(name, "one number or bool", _in_words(value))
    return array


def column_of(values: Any, count: int, name: str) -> NDArray[Any]:
    """One number or bool for each of ``count`` environments, as an array ``[count]``.

    Raises:
        MisfitError: something else; where one value is wrong, it says which.
    """
    if type(values) is np.ndarray and values.shape == (count,) and values.dtype.kind in "biuf":
        return values
    array = np.asarray(values)
    if array.shape != (count,):
        raise MisfitError(name, f"{count} numbers or bools", f"{type(values).__name__} of shape {array.shape}")
    if array.dtype.kind not in "biuf":
        for index, value in enumerate(values):
            try:
                _number(value, name)
            except MisfitError as error:
                error.index = index
                raise
        array = array.astype(np.float64)
    return array


def put_info(row: Row, index: int, key: str, value: Any) -> None:
    """Writes the info ``key`` of one environment into its row.

    Raises:
        MisfitError: it is not one number, or none that the row's dtype has.
    """
    number = _number(value, f"env/info/{key}")
    try:
        row[index] = number
    except (ValueError, OverflowError):
        raise MisfitError(f"env/info/{key}", row.dtype.name, _in_words(value)) from None


def _in_words(value: Any) -> str:
    kind = type(value).__name__
    try:
        shown = " ".join(repr(value).split())
    except Exception:
        return kind
    return f"{shown} ({kind})" if len(shown) < 60 else kind


class UnseenKeys:
    """The chosen info keys that no info has had so far, which may be misspelt.

    Args:
        keys: the chosen ones.
        env_name: how the warning calls the environment.
    """

    def __init__(self, keys: Iterable[str], env_name: str) -> None:
        self._keys, self._env_name = set(keys), env_name

    def see(self, info: Iterable[str]) -> None:
        """Takes out the keys that an info has."""
        if self._keys:
            self._keys.difference_update(info)

    def warn_of(self, info: Iterable[str]) -> None:
        """Warns, once, of those that are left at the end of an episode.

        Args:
            info: the last info of the episode.
        """
        if self._keys:
            missing, known = ", ".join(sorted(self._keys)), ", ".join(sorted(map(str, info))) or "nothing"
            warnings.warn(
                f"info_keys: {self._env_name} has given no '{missing}' in its first episode, so that 0 is recorded; "
                f"its last info has {known}",
                stacklevel=2,
            )
            self._keys.clear()


class _Rows:
    """The episode variables of some environments, from ``env/reward`` to ``env/cumulated_reward``.

    Whoever steps the environments writes observations and infos into the rows and ``reward``, ``terminated`` and
    ``truncated`` here, says what begins and what has ended, and calls ``write``, which does the rest. The methods are
    described in :class:`FewEpisodes`.

    Attributes:
        info_start: position of the first info among the rows.
    """

    def __init__(self, observations: Sequence[LeafSpec], n_info: int, count: int, first: int) -> None:
        self._names = [leaf.name for leaf in observations]
        self._first = first
        self._zeros = [
            (index, np.zeros((count, *leaf.shape), leaf.dtype))
            for index, leaf in enumerate(observations)
            if np.dtype(leaf.dtype).kind == "f"
        ]
        self._counts = [(index, Counts(leaf)) for index, leaf in enumerate(observations) if leaf.counts is not None]
        n_leaves = len(observations)
        self._episode = slice(n_leaves, n_leaves + len(_EPISODE_VARIABLES))
        self.info_start = self._episode.stop
        self._shown = [*range(n_leaves), *range(self.info_start, self.info_start + n_info)]
        self._final: dict[int, Row] = {}

    def keep_final(self, rows: Sequence[Row], index: Index) -> None:
        """This row is the last one of an episode and may have to be repeated."""
        for shown in self._shown:
            if shown not in self._final:
                self._final[shown] = np.zeros_like(rows[shown])
            self._final[shown][index] = rows[shown][index]

    @property
    def final(self) -> dict[int, Row]:
        """Observations and infos of final rows, ``[B, …]`` by position among the rows; zeros where none has ended."""
        return self._final

    @final.setter
    def final(self, rows: Mapping[int, Row]) -> None:
        self._final = {position: row.copy() for position, row in rows.items()}

    def _repeat_shown(self, rows: Sequence[Row], index: Index) -> None:
        for shown in self._shown:
            rows[shown][index] = self._final[shown][index]

    def _check_observations(self, rows: Sequence[Row], t: int) -> None:
        for leaf, zeros in self._zeros:
            if not all_finite(rows[leaf], zeros):
                where = tuple(np.argwhere(~np.isfinite(rows[leaf]))[0])
                self._refuse(self._names[leaf], int(where[0]), rows[leaf][where].item(), t)
        for leaf, counts in self._counts:
            if (found := counts.first_outside(rows[leaf])) is not None:
                raise MisfitError(self._names[leaf], counts.allowed(found), str(rows[leaf][found]), found[0])

    def _refuse(self, name: str, index: int, value: float, t: int) -> NoReturn:
        raise NonFiniteError(name, self._first + index, t, value)


class FewEpisodes(_Rows):
    """Episodes as Python numbers: a step costs little for each environment, and nothing else."""

    def __init__(self, observations: Sequence[LeafSpec], n_info: int, count: int, first: int) -> None:
        super().__init__(observations, n_info, count, first)
        self.reward = [0.0] * count
        self.terminated = [False] * count
        self.truncated = [False] * count
        self._cumulated_reward = [0.0] * count
        self._timestep = [0] * count
        self._advance = [1] * count
        self._begun = [False] * count

    def begin(self, index: int) -> None:
        """This row is the first one of an episode of environment ``index``."""
        self._advance[index] = 1
        self._timestep[index] = -1
        self.reward[index] = self._cumulated_reward[index] = 0.0
        self.terminated[index] = self.truncated[index] = False
        self._begun[index] = True

    @property
    def lengths(self) -> list[int]:
        """Number of steps of the episode of each environment, as of the last row that was written."""
        return self._timestep

    def repeat_final(self, rows: Sequence[Row], index: int) -> None:
        """This row repeats the last one of the episode: reward 0, and everything else as it was."""
        self.reward[index] = 0.0
        self._advance[index] = 0
        self._repeat_shown(rows, index)

    def state(self) -> dict[str, NDArray[Any]]:
        """What is kept of the episodes from row to row, ``[B]`` each: ends, steps and the sum of rewards."""
        return {
            "terminated": np.array(self.terminated, np.bool_),
            "truncated": np.array(self.truncated, np.bool_),
            "timestep": np.array(self._timestep, np.int64),
            "cumulated_reward": np.array(self._cumulated_reward, np.float64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes over what :meth:`state` gave. Final rows are not part of it: see :meth:`keep_final`."""
        self.terminated, self.truncated = state["terminated"].tolist(), state["truncated"].tolist()
        self._timestep, self._cumulated_reward = state["timestep"].tolist(), state["cumulated_reward"].tolist()
        self._advance = [1] * len(self._advance)

    def write(self, rows: Sequence[Row], t: int) -> None:
        """Counts the step, checks rewards and observations, and fills the rows of the episode variables.

        Raises:
            NonFiniteError: a NaN or an infinity, also one that becomes one in float32.
            MisfitError: a discrete observation that is not of its space.
        """
        self._check_observations(rows, t)
        rewards, terminated, truncated, done, timestep, initial_state, cumulated_reward = rows[self._episode]
        earned, is_terminated, is_truncated, begun = self.reward, self.terminated, self.truncated, self._begun
        totals = [total + reward for total, reward in zip(self._cumulated_reward, earned, strict=True)]
        # What is below the bound as a sum of sizes is so each by itself; the sum of anything with a NaN is not.
        if not (sum(map(abs, earned)) <= _LARGEST_FLOAT32 and sum(map(abs, totals)) <= _LARGEST_FLOAT32):
            self._refuse_large(earned, totals, t)
        steps = [step + advance for step, advance in zip(self._timestep, self._advance, strict=True)]
        self._cumulated_reward, self._timestep = totals, steps
        rewards[:], timestep[:], cumulated_reward[:] = earned, steps, totals
        if True in is_terminated or True in is_truncated:
            terminated[:], truncated[:] = is_terminated, is_truncated
            np.logical_or(terminated, truncated, done)
        else:
            terminated.fill(False)
            truncated.fill(False)
            done.fill(False)
        if True in begun:
            initial_state[:] = begun
            self._begun = [False] * len(begun)
        else:
            initial_state.fill(False)

    def _refuse_large(self, earned: Sequence[float], totals: Sequence[float], t: int) -> None:
        for i, (reward, total) in enumerate(zip(earned, totals, strict=True)):
            if not -_LARGEST_FLOAT32 <= reward <= _LARGEST_FLOAT32:
                self._refuse("env/reward", i, reward, t)
            if not -_LARGEST_FLOAT32 <= total <= _LARGEST_FLOAT32:
                self._refuse("env/cumulated_reward", i, total, t)


class ManyEpisodes(_Rows):
    """Episodes as arrays: a step costs a dozen calls of numpy, whatever their number.

    ``reward``, ``terminated`` and ``truncated`` may be replaced by other arrays ``[B]``, which ``write`` leaves alone.
    """

    def __init__(self, observations: Sequence[LeafSpec], n_info: int, count: int, first: int) -> None:
        super().__init__(observations, n_info, count, first)
        self.reward: NDArray[Any] = np.zeros(count)
        self.terminated: NDArray[Any] = np.zeros(count, np.bool_)
        self.truncated: NDArray[Any] = np.zeros(count, np.bool_)
        self._cumulated_reward = np.zeros(count)
        self._timestep = np.zeros(count, np.int64)
        self._ones = np.ones(count, np.int64)
        self._begun = np.zeros(count, np.bool_)
        self._has_begun = False
        self._advances: NDArray[np.bool_] | None = None

    def begin(self, index: int) -> None:
        self.terminated[index] = self.truncated[index] = False
        self._begun[index] = self._has_begun = True
        if self._advances is not None:
            self._advances[index] = True

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self._timestep

    def begin_where(self, mask: NDArray[np.bool_]) -> None:
        """This row is the first one of an episode of the environments where ``mask``, ``[B]``, is true.

        Unlike :meth:`begin` it leaves ``terminated`` and ``truncated`` to the caller.
        """
        np.logical_or(self._begun, mask, self._begun)
        self._has_begun = True
        if self._advances is not None:
            np.logical_or(self._advances, mask, self._advances)

    def repeat_final(self, rows: Sequence[Row], index: Index) -> None:
        if self._advances is None:
            self._advances = np.ones(len(self._timestep), np.bool_)
        self.reward[index] = 0.0
        self._advances[index] = False
        self._repeat_shown(rows, index)

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "terminated": self.terminated.copy(),
            "truncated": self.truncated.copy(),
            "timestep": self._timestep.copy(),
            "cumulated_reward": self._cumulated_reward.copy(),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.terminated, self.truncated = state["terminated"].copy(), state["truncated"].copy()
        self._timestep, self._cumulated_reward = state["timestep"].copy(), state["cumulated_reward"].copy()
        self._advances = None

    def write(self, rows: Sequence[Row], t: int) -> None:
        reward, total, steps = self.reward, self._cumulated_reward, self._timestep
        row_of_reward, terminated, truncated, done, timestep, initial_state, cumulated_reward = rows[self._episode]
        np.add(steps, self._ones if self._advances is None else self._advances, steps)
        initial_state[...] = self._begun
        if self._has_begun:
            reward = np.where(self._begun, 0.0, reward)
            steps[self._begun] = 0
            total[self._begun] = 0.0
            self._begun.fill(False)
            self._has_begun = False
        np.add(total, reward, total)
        self._check_observations(rows, t)
        # Of rewards in float32 only NaN and infinity are refused, and these show in the total.
        is_below = all_below(total, _LARGEST_FLOAT32)
        if not (is_below and (reward.dtype is _FLOAT32 or all_below(reward, _LARGEST_FLOAT32))):
            self._refuse_total(t, reward)
        row_of_reward[...] = reward
        terminated[...] = self.terminated
        truncated[...] = self.truncated
        np.logical_or(terminated, truncated, done)
        timestep[...] = steps
        cumulated_reward[...] = total

    def _refuse_total(self, t: int, reward: NDArray[Any]) -> None:
        for name, values in (("env/reward", reward), ("env/cumulated_reward", self._cumulated_reward)):
            outside = np.flatnonzero(~(np.abs(values) <= _LARGEST_FLOAT32))
            if len(outside):
                self._refuse(name, int(outside[0]), float(values[outside[0]]), t)


EpisodeRows = FewEpisodes | ManyEpisodes


def episode_rows(observations: Sequence[LeafSpec], n_info: int, count: int, first: int) -> EpisodeRows:
    """The episode variables of ``count`` environments, kept in the way that is fastest for so many.

    Args:
        observations: the leaves of the observation.
        n_info: number of info variables, the last of the rows.
        count: number of environments.
        first: index in the batch of the first one, for messages.
    """
    return (FewEpisodes if count <= _FEW else ManyEpisodes)(observations, n_info, count, first)
