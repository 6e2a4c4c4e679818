"""The space of a search: Hydra's sweeps of keys as Optuna's distributions."""

from __future__ import annotations

import decimal
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from bbrl_exp.config.overrides import ChoiceSweep, Glob, IntervalSweep, Override, QuotedString, RangeSweep, parse
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.settings import shown

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = bool | int | float | str | None
_DIGITS = 4
_MOST_VALUES = 10_000
_SWEEP = "choice(...), range(...) or interval(...), of which tag(log, ...) is drawn by its logarithm"
_NOT_SEARCHED = {
    "seed": "the seeds of each trial's runs are hydra.sweeper.seeds",
    "name": "the search names its one folder",
    "resume": "a search resumes by its name",
    "pause_after": "the search sets it, at hydra.sweeper.rungs",
}


@dataclass(frozen=True)
class Parameter:
    """One dimension of the space.

    Attributes:
        key: before ``=`` in an override.
        written: after ``=``.
        distribution: as Optuna has it.
        values: of a choice or a range, in the order in which they are written.
        texts: how each of them is written in an override.
    """

    key: str
    written: str
    distribution: BaseDistribution
    values: tuple[Value, ...] = ()
    texts: tuple[str, ...] = ()

    def suggest(self, trial: Trial) -> Value:
        """The value that the sampler proposes for the trial, or has proposed before."""
        asked = self.distribution
        if isinstance(asked, FloatDistribution):
            return trial.suggest_float(self.key, asked.low, asked.high, step=asked.step, log=asked.log)
        if isinstance(asked, IntDistribution):
            return trial.suggest_int(self.key, asked.low, asked.high, step=asked.step, log=asked.log)
        assert isinstance(asked, CategoricalDistribution)
        found: Value = trial.suggest_categorical(self.key, asked.choices)
        return found

    def used(self, value: Value) -> Value:
        """The value that runs have: that of an interval is rounded to four digits, within its ends."""
        if self.values:
            return self.values[self._index(value)]
        if isinstance(self.distribution, IntDistribution):
            return value
        assert isinstance(self.distribution, FloatDistribution)
        assert isinstance(value, int | float)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.distribution.low), self.distribution.high)

    def override(self, value: Value) -> str:
        """The override that gives runs this value."""
        text = self.texts[self._index(value)] if self.values else repr(self.used(value))
        return f"{self.key}={text}"

    @property
    def ends(self) -> tuple[str, str]:
        """The overrides of its first value and of its last one."""
        if self.values:
            return self.override(self.values[0]), self.override(self.values[-1])
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return self.override(self.distribution.low), self.override(self.distribution.high)

    def _index(self, value: Value) -> int:
        """Where it is among the values; floats of a range are found by nearness."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.values.index(value)
        assert isinstance(value, int | float)
        distances = [abs(float(item) - value) for item in self.values if isinstance(item, int | float)]
        return distances.index(min(distances))


def read_space(params: Mapping[str, Any], typed: Sequence[Override]) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """The space, and the overrides that all trials have.

    What is typed wins over ``params``: a sweep replaces the one there, a single value takes the key out of the space.

    Args:
        params: ``hydra.sweeper.params``.
        typed: the overrides of the command line that are not about Hydra itself.

    Raises:
        ConfigurationError: something is not to be searched, or cannot be, or there is nothing to search.
    """
    constant = tuple(str(override.input_line) for override in typed if not override.is_sweep_override())
    for override in typed:
        _check_searched(override.key_or_group, of_all=not override.is_sweep_override())
    names = {override.key_or_group for override in typed}
    written = [item for item in params.items() if item[0].lstrip("+") not in names]
    found = [_of_params(key, value) for key, value in written]
    found += [override for override in typed if override.is_sweep_override()]
    space = {override.key_or_group: parameter_of(override) for override in found}
    if not space:
        raise ConfigurationError(f"a search needs a space: search=<option of the group>, or keys with {_SWEEP}")
    return tuple(space.values()), constant


def parameter_of(override: Override) -> Parameter:
    """The parameter that a sweep is.

    Raises:
        ConfigurationError: it cannot be searched.
    """
    key, sweep = override.get_key_element(), override.value()
    written = str(override.input_line).partition("=")[2]
    try:
        if isinstance(sweep, IntervalSweep):
            return Parameter(key, written, _interval(sweep))
        if isinstance(sweep, RangeSweep):
            return _range(key, written, sweep)
        assert isinstance(sweep, ChoiceSweep | Glob)
        return _choice(key, written, override, sweep)
    except ValueError as error:
        raise ConfigurationError(f"search of '{key}' = {written}: {error}") from error


def _of_params(key: str, value: object) -> Override:
    where = f"key 'hydra.sweeper.params.{key}' = {shown(value)}"
    if isinstance(value, Mapping):
        raise ConfigurationError(f"{where}: must be {_SWEEP}; on the command line write {key}.<key>=interval(...)")
    if not isinstance(value, str):
        raise ConfigurationError(f"{where}: must be {_SWEEP}")
    (override,) = parse([f"{key}={value}"])
    if not override.is_sweep_override():
        raise ConfigurationError(f"{where}: must be {_SWEEP}; give a single value as an ordinary override")
    _check_searched(override.key_or_group)
    return override


def _check_searched(key: str, *, of_all: bool = False) -> None:
    if key.startswith(("hydra.", "hydra/")):
        raise ConfigurationError(f"key '{key}' cannot be searched: it is not a key of the runs")
    if key in _NOT_SEARCHED and not (of_all and key == "name"):
        raise ConfigurationError(f"key '{key}' cannot be set in a search: {_NOT_SEARCHED[key]}")


def _is_log(sweep: IntervalSweep | RangeSweep | ChoiceSweep, *, may_be: bool = True) -> bool:
    """Whether it is tagged ``log``; ValueError where it has another tag, or must have none."""
    allowed = {"log"} if may_be else set()
    if unknown := sorted(sweep.tags - allowed):
        raise ValueError(f"tag '{unknown[0]}' is not known here; known: {'log' if may_be else 'none'}")
    return "log" in sweep.tags


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    low, high = sweep.start, sweep.end
    is_log = _is_log(sweep)
    assert low is not None
    assert high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("must grow from a number to a larger one")
    if is_log and low <= 0:
        raise ValueError("must begin above 0 to be drawn by its logarithm")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=is_log)
    return FloatDistribution(low, high, log=is_log)


def _range(key: str, written: str, sweep: RangeSweep) -> Parameter:
    is_log = _is_log(sweep)
    values = _values_of(sweep)
    texts = tuple(map(repr, values))
    low, high, step = min(values), max(values), abs(sweep.step)
    if is_log and (low <= 0 or step != 1 or isinstance(low, float)):
        raise ValueError("must be of whole numbers above 0 with a step of 1 to be drawn by its logarithm")
    distribution: BaseDistribution
    if all(isinstance(value, int) for value in values):
        distribution = IntDistribution(int(low), int(high), log=is_log, step=int(step))
    else:
        distribution = FloatDistribution(float(low), float(high), step=float(step))
    return Parameter(key, written, distribution, tuple(values), texts)


def _values_of(sweep: RangeSweep) -> list[int | float]:
    """The values from ``start`` on, ``stop`` left out, as decimal numbers: 0.3 and not 0.30000000000000004."""
    start, stop, step = (decimal.Decimal(str(number)) for number in (sweep.start, sweep.stop, sweep.step))
    _check_order(sweep.shuffle)
    if step == 0:
        raise ValueError("must have a step")
    count = math.ceil((stop - start) / step)
    if count < 1:
        raise ValueError("is empty")
    if count > _MOST_VALUES:
        raise ValueError(f"has {count:,} values: must have at most {_MOST_VALUES:,}; interval(...) has all of them")
    is_whole = all(isinstance(number, int) for number in (sweep.start, sweep.stop, sweep.step))
    return [int(start + index * step) if is_whole else float(start + index * step) for index in range(count)]


def _choice(key: str, written: str, override: Override, sweep: ChoiceSweep | Glob) -> Parameter:
    if isinstance(sweep, ChoiceSweep):
        _is_log(sweep, may_be=False)
        _check_order(sweep.shuffle)
    texts = tuple(override.sweep_string_iterator())
    written_values = [_plain(value, text) for value, text in zip(override.sweep_iterator(), texts, strict=True)]
    if not texts:
        raise ValueError("is empty")
    for index, value in enumerate(written_values):
        if value in written_values[:index]:
            raise ValueError(f"has {shown(value)} twice")
    return Parameter(key, written, CategoricalDistribution(written_values), tuple(written_values), texts)


def _plain(value: object, text: str) -> Value:
    """The value as Optuna keeps it: lists and mappings as they are written."""
    if isinstance(value, QuotedString):
        return value.text
    return value if value is None or isinstance(value, bool | int | float | str) else text


def _check_order(shuffle: bool) -> None:
    if shuffle:
        raise ValueError("cannot be shuffled: the sampler chooses the order")


def grid(space: Iterable[Parameter]) -> list[dict[str, Value]]:
    """Every point of a space of choices and ranges, the last parameter varying first.

    Raises:
        ConfigurationError: a parameter is an interval.
    """
    parameters = list(space)
    for parameter in parameters:
        if not parameter.values:
            raise ConfigurationError(
                f"search of '{parameter.key}' = {parameter.written}: a grid needs choice(...) or range(...)"
            )
    points = itertools.product(*(parameter.values for parameter in parameters))
    return [dict(zip([parameter.key for parameter in parameters], point, strict=True)) for point in points]
