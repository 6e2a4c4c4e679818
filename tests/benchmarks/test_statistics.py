"""Statistics that the learning benchmark reports, on scores whose values are known by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "learning_statistics.py"


@pytest.fixture(scope="module")
def learning_statistics() -> ModuleType:
    spec = importlib.util.spec_from_file_location("learning_statistics", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_interquartile_mean_of_eight_scores_is_the_mean_of_the_middle_four(
    learning_statistics: ModuleType,
) -> None:
    scores = [8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0]
    assert learning_statistics.interquartile_mean(scores) == (3.0 + 4.0 + 5.0 + 6.0) / 4


def test_of_five_seeds_the_best_and_the_worst_are_left_out_and_of_three_none(learning_statistics: ModuleType) -> None:
    assert learning_statistics.interquartile_mean([500.0, 19.0, 490.0, 480.0, 470.0]) == 480.0
    assert learning_statistics.interquartile_mean([19.0, 500.0, 500.0]) == pytest.approx(1019.0 / 3)


def test_rows_of_scores_are_averaged_each_alone(learning_statistics: ModuleType) -> None:
    assert learning_statistics.interquartile_mean([[0.0, 1.0, 2.0, 3.0], [10.0, 11.0, 12.0, 13.0]]).tolist() == [
        1.5,
        11.5,
    ]


def test_equal_scores_have_an_interval_of_no_width(learning_statistics: ModuleType) -> None:
    assert learning_statistics.bootstrap_interval([500.0] * 5) == (500.0, 500.0)


def test_the_interval_of_two_seeds_is_their_range_because_a_quarter_of_the_resamples_is_each_of_them(
    learning_statistics: ModuleType,
) -> None:
    assert learning_statistics.bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)


def test_a_narrow_interval_of_two_seeds_is_their_mean(learning_statistics: ModuleType) -> None:
    # Means 0, ½, ½, 1 of the four resamples: a mass of 0.4 around the median holds nothing but ½.
    assert learning_statistics.bootstrap_interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)


def test_the_interval_of_a_large_sample_is_that_of_the_normal_distribution_of_its_interquartile_mean(
    learning_statistics: ModuleType,
) -> None:
    n = 400
    scores = [(i + 0.5) / n for i in range(n)]
    # Trimmed mean of uniform scores: variance (∫(x-½)² over the middle half + 2 · ¼ · (¼)²) / ½² / n.
    deviation = ((2 * 0.25**3 / 3 + 2 * 0.25 * 0.25**2) / 0.25 / n) ** 0.5
    lower, upper = learning_statistics.bootstrap_interval(scores)
    assert lower == pytest.approx(0.5 - 1.96 * deviation, abs=0.1 * deviation)
    assert upper == pytest.approx(0.5 + 1.96 * deviation, abs=0.1 * deviation)


def test_steps_to_threshold_are_those_of_the_first_evaluation_that_reaches_it(learning_statistics: ModuleType) -> None:
    curve = [(5000, 100.0), (10_000, 475.0), (15_000, 30.0), (20_000, 500.0)]
    assert learning_statistics.steps_to_threshold(curve, 475) == 10_000
    assert learning_statistics.steps_to_threshold(curve, 501) is None
