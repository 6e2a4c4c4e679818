"""Learning curves and the environment steps that a return costs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bbrl_exp.records.metrics import EVALUATIONS, TRAINING_RETURNS, Metrics, Series
from bbrl_exp.reports.curves import (
    Curve,
    choose_source,
    curve_of,
    default_thresholds,
    efficiency_of,
    series_of,
)
from bbrl_exp.reports.run_folder import Run


def series(points: dict[float, float]) -> Series:
    return Series(np.array(list(points)), np.array(list(points.values())))


def run(**named: Series) -> Run:
    names = {"evaluations": EVALUATIONS, "training": TRAINING_RETURNS}
    return Run(Path("x"), "completed", metrics=Metrics(series={names[name]: of for name, of in named.items()}))


def test_evaluations_are_taken_where_all_runs_with_a_curve_have_them() -> None:
    evaluated = run(evaluations=series({1.0: 1.0}), training=series({1.0: 1.0}))
    trained = run(training=series({1.0: 1.0}))
    assert choose_source([evaluated, run()]) == EVALUATIONS
    assert choose_source([evaluated, trained]) == TRAINING_RETURNS


def test_training_returns_are_the_mean_of_the_last_hundred_from_the_tenth_on() -> None:
    found = series_of(run(training=series({float(10 * k): float(k) for k in range(1, 121)})), TRAINING_RETURNS)
    assert found is not None
    assert found.env_steps[[0, -1]].tolist() == [100, 1200]
    assert found.values[0] == pytest.approx(np.mean(range(1, 11)))
    assert found.values[-1] == pytest.approx(np.mean(range(21, 121)))
    assert series_of(run(training=series({1.0: 1.0})), TRAINING_RETURNS) is None


def test_a_curve_is_the_interquartile_mean_at_each_step_within_its_band() -> None:
    runs = [series({10.0: value, 20.0: 10 * value}) for value in (0.0, 1.0, 3.0, 100.0)]
    found = curve_of("a", "env", runs)
    assert found.env_steps.tolist() == [10, 20]
    assert found.center.tolist() == [2, 20]
    assert found.lower is not None
    assert found.upper is not None
    assert (found.lower <= found.center).all()
    assert (found.center <= found.upper).all()


def test_a_single_run_has_a_curve_and_no_band() -> None:
    found = curve_of("a", "env", [series({10.0: 1.0})])
    assert (found.center.tolist(), found.lower, found.upper) == ([1], None, None)


def test_runs_measured_at_other_steps_are_interpolated_where_all_have_values() -> None:
    found = curve_of("a", "env", [series({0.0: 0.0, 20.0: 20.0}), series({10.0: 30.0, 30.0: 50.0})])
    assert found.env_steps.tolist() == [10, 20]
    assert found.center.tolist() == [(10 + 30) / 2, (20 + 40) / 2]


def test_runs_with_no_steps_in_common_have_a_point() -> None:
    found = curve_of("a", "env", [series({0.0: 0.0, 1.0: 2.0}), series({10.0: 4.0})])
    assert (found.env_steps.tolist(), found.center.tolist()) == ([1], [3])


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    found = curve_of("a", "env", [series({float(step): float(step) for step in range(5000)})])
    assert len(found.env_steps) == 100
    assert found.center[[0, -1]].tolist() == [0, 4999]


def curve(environment: str, *center: float) -> Curve:
    return Curve("a", environment, 1, np.arange(len(center), dtype=float), np.array(center), None, None)


def test_the_threshold_is_nine_tenths_of_the_way_up() -> None:
    curves = [curve("a", 20.0, 120.0), curve("a", 30.0, 40.0), curve("b", -200.0, -100.0), curve("flat", 1.0, 1.0)]
    assert default_thresholds(curves) == {"a": 110.0, "b": -110.0}


def test_the_steps_to_a_threshold_are_those_of_the_first_point_that_reaches_it() -> None:
    runs = [series({10.0: 1.0, 20.0: 5.0, 30.0: 2.0}), series({10.0: 5.0}), series({10.0: 0.0, 40.0: 4.9})]
    found = efficiency_of("a", "env", runs, 5.0)
    assert found.steps.tolist() == [10, 20, math.inf]
    assert (found.n_reached, found.median.value, found.budget) == (2, 20, 40)
    assert (found.median.lower, found.median.upper) == (10, math.inf)


def test_the_median_of_two_runs_of_which_one_never_arrives_is_never() -> None:
    assert efficiency_of("a", "env", [series({10.0: 5.0}), series({10.0: 0.0})], 5.0).median.value == math.inf
