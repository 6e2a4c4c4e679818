"""Values that change during a run: functions of the fraction of it that is done, and schedules for configurations."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from bbrl_exp.arguments import FINITE, FROM_0_TO_1, AboveZeroToOne, Count, Finite, Scheduled, check_fields
from bbrl_exp.errors import ConfigurationError

Option = TypeVar("Option")


def linear(start: float, end: float, fraction: float) -> float:
    """From ``start`` at 0 to ``end`` at 1; constant outside.

    Args:
        start: first value.
        end: last value.
        fraction: the fraction of the run that is done.
    """
    done = min(max(fraction, 0.0), 1.0)
    return (1.0 - done) * start + done * end


def linear_until(start: float, end: float, fraction: float, until: float) -> float:
    """From ``start`` at 0 to ``end`` when the fraction ``until`` of the run is done, and ``end`` from then on.

    Args:
        start: first value.
        end: last value.
        fraction: the fraction of the run that is done.
        until: the fraction of the run in which the value changes; 0 for ``end`` from the beginning.
    """
    return end if fraction >= until else linear(start, end, fraction / until)


def completes_period(number: int, period: float) -> bool:
    """Whether an event is the first one at or after a multiple of ``period``.

    Args:
        number: which of the events it is, counted from 1.
        period: in events, not necessarily whole; at most 1 makes it true of all.
    """
    return number // period > (number - 1) // period


@runtime_checkable
class Schedule(Protocol):
    """A number that depends on how far a run is, and on nothing else: it has no state."""

    def value_at(self, env_steps: int, total_steps: int) -> float:
        """The number when ``env_steps`` of the ``total_steps`` environment steps of the run are done."""


@runtime_checkable
class KnowsItsSteps(Schedule, Protocol):
    """A schedule that says whether it depends on the length of the run; others do."""

    def depends_on_total_steps(self) -> bool:
        """Whether the values are others in a longer run, which therefore cannot be the same run made longer."""


def before_the_run(option: Option, otherwise: float) -> Option | float:
    """An option as it is; ``otherwise`` for a schedule, which has no value before the length of the run is known."""
    return otherwise if isinstance(option, Schedule) else option


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """A schedule that changes in the first part of the run: in the whole run, unless one of two arguments says less.

    Args:
        steps: environment steps in which it changes.
        fraction: the fraction of the run in which it changes.
    """

    steps: Count | None = None
    fraction: AboveZeroToOne | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.steps is not None and self.fraction is not None:
            raise ConfigurationError(f"steps={self.steps}: has no effect with fraction={self.fraction}; one of them")

    def depends_on_total_steps(self) -> bool:
        return self.steps is None

    def done_at(self, env_steps: int, total_steps: int) -> float:
        """The part of the change that is over, 0 to 1."""
        if self.steps is not None:
            return min(env_steps / self.steps, 1.0)
        return min(env_steps / total_steps / (1.0 if self.fraction is None else self.fraction), 1.0)


@dataclass(frozen=True)
class Linear(_Stretch):
    """In a straight line from ``start`` to ``end``, constant after that.

    Args:
        start: the first value.
        end: the last value.
        steps: environment steps in which it changes; None for ``fraction``.
        fraction: the fraction of the run in which it changes; None, with ``steps`` None too, for all of it.
    """

    start: Finite
    end: Finite = 0.0

    def value_at(self, env_steps: int, total_steps: int) -> float:
        return linear(self.start, self.end, self.done_at(env_steps, total_steps))


@dataclass(frozen=True)
class Cosine(_Stretch):
    """Along half a cosine from ``start`` to ``end``, slow at both ends (Loshchilov & Hutter, 2017, equation 5).

    Args:
        start: the first value.
        end: the last value.
        steps: environment steps in which it changes; None for ``fraction``.
        fraction: the fraction of the run in which it changes; None, with ``steps`` None too, for all of it.
    """

    start: Finite
    end: Finite = 0.0

    def value_at(self, env_steps: int, total_steps: int) -> float:
        done = self.done_at(env_steps, total_steps)
        return linear(self.start, self.end, (1.0 - math.cos(math.pi * done)) / 2.0)


@dataclass(frozen=True)
class Warmup(_Stretch):
    """In a straight line from ``start`` up to ``then``, which is a number, or a schedule of the rest of the run.

    Args:
        then: the value after that, or a schedule that begins there, and whose run is what is left.
        start: the first value.
        steps: environment steps of the line; None for ``fraction``.
        fraction: the fraction of the run that is the line; one of the two must be given.
    """

    then: Scheduled[Finite]
    start: Finite = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is None and self.fraction is None:
            raise ConfigurationError("steps=null: must be a number of environment steps, or give fraction")

    def depends_on_total_steps(self) -> bool:
        return super().depends_on_total_steps() or (
            isinstance(self.then, Schedule) and depends_on_total_steps(self.then)
        )

    def value_at(self, env_steps: int, total_steps: int) -> float:
        first = round(total_steps * (self.fraction or 0.0)) if self.steps is None else self.steps
        value = self.then
        if isinstance(value, Schedule):
            value = value.value_at(max(env_steps - first, 0), max(total_steps - first, 1))
        return linear(self.start, value, self.done_at(env_steps, total_steps))


@dataclass(frozen=True)
class PiecewiseConstant:
    """One value after another, each constant.

    Args:
        values: one more than there are changes.
        steps: environment steps after which the next value begins, in ascending order; None for ``fractions``.
        fractions: the same as fractions of the run, 0 to 1.
    """

    values: Sequence[Finite]
    steps: Sequence[int] | None = None
    fractions: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.fractions is None):
            raise ConfigurationError(f"steps={self.steps}, fractions={self.fractions}: one of them is needed")
        name = "fractions" if self.steps is None else "steps"
        for value in self.values:
            FINITE.check(values=value)
        for end in self.fractions or ():
            FROM_0_TO_1.check(fractions=end)
        if any(first >= second for first, second in itertools.pairwise((0, *self._ends))):
            raise ConfigurationError(f"{name}={list(self._ends)}: must be above 0 and ascending")
        if len(self.values) != len(self._ends) + 1:
            raise ConfigurationError(
                f"values={list(self.values)}: must be {len(self._ends) + 1} values, one more than {name}"
            )

    @property
    def _ends(self) -> Sequence[float]:
        return self.steps or self.fractions or ()

    def depends_on_total_steps(self) -> bool:
        return self.steps is None

    def value_at(self, env_steps: int, total_steps: int) -> float:
        return self.values[bisect.bisect_right(self._ends, env_steps if self.steps else env_steps / total_steps)]


def depends_on_total_steps(schedule: Schedule) -> bool:
    """Whether a schedule has other values in a longer run: yes, unless it says no."""
    return not isinstance(schedule, KnowsItsSteps) or schedule.depends_on_total_steps()
