"""Schedules have the values that their names say, and refuse arguments that contradict each other."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.schedules import (
    Cosine,
    Linear,
    PiecewiseConstant,
    Schedule,
    Warmup,
    depends_on_total_steps,
)

CASES: list[tuple[Schedule, list[float], bool]] = [
    (Linear(2.0), [2.0, 1.5, 1.0, 0.0], True),
    (Linear(2.0, 1.0, steps=50), [2.0, 1.5, 1.0, 1.0], False),
    (Linear(2.0, 1.0, fraction=0.5), [2.0, 1.5, 1.0, 1.0], True),
    (Cosine(2.0), [2.0, 1 + math.cos(math.pi / 4), 1.0, 0.0], True),
    (Cosine(2.0, 4.0, steps=50), [2.0, 3.0, 4.0, 4.0], False),
    (Warmup(2.0, steps=50), [0.0, 1.0, 2.0, 2.0], False),
    (Warmup(2.0, start=1.0, fraction=0.25), [1.0, 2.0, 2.0, 2.0], True),
    (Warmup(Linear(2.0), steps=50), [0.0, 1.0, 2.0, 0.0], True),
    (Warmup(Linear(2.0, steps=50), steps=50), [0.0, 1.0, 2.0, 0.0], False),
    (PiecewiseConstant([3.0, 2.0, 1.0], steps=[25, 51]), [3.0, 2.0, 2.0, 1.0], False),
    (PiecewiseConstant([3.0, 2.0], fractions=[0.5]), [3.0, 3.0, 2.0, 2.0], True),
    (PiecewiseConstant([3.0], steps=[]), [3.0, 3.0, 3.0, 3.0], False),
]


@pytest.mark.parametrize(("schedule", "values", "depends"), CASES)
def test_a_schedule_has_its_values_after_0_25_50_and_100_of_100_steps(
    schedule: Schedule, values: list[float], depends: bool
) -> None:
    assert [schedule.value_at(steps, 100) for steps in (0, 25, 50, 100)] == pytest.approx(values, abs=1e-15)
    assert depends_on_total_steps(schedule) is depends


def test_a_class_of_another_package_is_a_schedule_that_depends_on_the_length_of_the_run() -> None:
    class Mine:
        def value_at(self, env_steps: int, total_steps: int) -> float:
            return env_steps / total_steps

    assert isinstance(Mine(), Schedule)
    assert depends_on_total_steps(Mine())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Linear(1.0, steps=0), "steps=0: must be at least 1"),
        (lambda: Cosine(1.0, fraction=1.5), "fraction=1.5: must be above 0, at most 1"),
        (lambda: Linear(1.0, steps=3, fraction=0.5), "steps=3: has no effect with fraction=0.5; one of them"),
        (lambda: Linear(math.nan), "start=nan: must be a number, and finite"),
        (lambda: Warmup(1.0), "steps=null: must be a number of environment steps, or give fraction"),
        (lambda: PiecewiseConstant([1.0, 2.0]), "steps=None, fractions=None: one of them is needed"),
        (lambda: PiecewiseConstant([1.0], steps=[5]), "values=[1.0]: must be 2 values, one more than steps"),
        (
            lambda: PiecewiseConstant([1.0, 2.0, 3.0], fractions=[0.5, 0.5]),
            "fractions=[0.5, 0.5]: must be above 0 and ascending",
        ),
        (lambda: PiecewiseConstant([1.0, math.inf], steps=[5]), "values=inf: must be a number, and finite"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert str(refused.value) == complaint
