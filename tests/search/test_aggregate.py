"""How the runs of a trial make one value."""

import pytest
from scipy import stats

from bbrl_exp.functional.statistics import interquartile_mean
from bbrl_exp.search.search import AGGREGATES


def test_a_quarter_is_dropped_at_each_end() -> None:
    assert interquartile_mean([1000.0, 1.0, 2.0, -1000.0]) == 1.5


def test_fewer_than_four_values_are_all_kept() -> None:
    assert interquartile_mean([1.0, 2.0, 9.0]) == 4.0


@pytest.mark.parametrize("count", range(1, 14))
def test_it_is_the_trimmed_mean_of_scipy(count: int) -> None:
    values = [float((7 * index) % 13) ** 2 for index in range(count)]
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_the_other_aggregates_are_what_they_are_called() -> None:
    values = [1.0, 2.0, 6.0, 7.0]
    assert {name: aggregate(values) for name, aggregate in AGGREGATES.items()} == {
        "iqm": 4.0,
        "mean": 4.0,
        "median": 4.0,
        "min": 1.0,
    }
