"""The numbers of a report, beside rliable's and scipy's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bbrl_exp.reports import statistics
from bbrl_exp.reports.statistics import (
    counts,
    draw,
    estimate,
    interval,
    mean,
    median,
    performance_profile,
    pooled_interquartile_mean,
    probability_of_improvement,
    resampled_improvement,
)

ORACLE = json.loads(Path(__file__).with_name("rliable_oracle.json").read_text(encoding="utf-8"))
STATISTICS = {"iqm": pooled_interquartile_mean, "mean": mean, "median": median}


@pytest.fixture(params=list(ORACLE["cases"]))
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    found = ORACLE["cases"][request.param]
    return {**found, "x": np.array(found["x"]), "y": np.array(found["y"])}


def strata(matrix: np.ndarray) -> list[np.ndarray]:
    return list(matrix.T)


def draws_of_rliable(*matrices: np.ndarray) -> list[list[np.ndarray]]:
    """The draws that numpy's global generator gave rliable: for each matrix, one ``[R, N]`` an environment."""
    generator = np.random.RandomState(ORACLE["seed"])
    drawn = [
        [generator.choice(len(matrix), matrix.shape, replace=True) for matrix in matrices]
        for _ in range(ORACLE["repetitions"])
    ]
    return [list(np.moveaxis(np.array(of), 2, 0)) for of in zip(*drawn, strict=True)]


def median_as_rliable(of: list[np.ndarray]) -> np.ndarray:
    """Of one environment rliable gives the mean."""
    return mean(of) if len(of) == 1 else median(of)


@pytest.mark.parametrize("name", list(STATISTICS))
def test_estimates_and_intervals_are_those_of_rliable_on_the_same_draws(case: dict[str, Any], name: str) -> None:
    statistic = median_as_rliable if name == "median" else STATISTICS[name]
    (drawn,) = draws_of_rliable(case["x"])
    found = estimate(statistic, strata(case["x"]), drawn)
    assert found.value == pytest.approx(case["estimates"][name], rel=1e-12)
    assert (found.lower, found.upper) == pytest.approx(case["intervals"][name], rel=1e-12)


def test_the_probability_of_improvement_is_that_of_rliable_on_the_same_draws(case: dict[str, Any]) -> None:
    x, y = strata(case["x"]), strata(case["y"])
    assert probability_of_improvement(x, y) == pytest.approx(case["improvement"], abs=1e-12)
    drawn = draws_of_rliable(case["x"], case["y"])
    resampled = resampled_improvement(x, y, *([counts(draws) for draws in of] for of in drawn))
    assert interval(resampled) == pytest.approx(case["improvement_interval"], abs=1e-12)


def test_performance_profiles_are_those_of_rliable_on_the_same_draws(case: dict[str, Any]) -> None:
    x, thresholds = strata(case["x"]), np.array(case["thresholds"])
    np.testing.assert_allclose(performance_profile(x, thresholds), case["profile"], atol=1e-12)
    (drawn,) = draws_of_rliable(case["x"])
    resampled = [scores[of] for scores, of in zip(x, drawn, strict=True)]
    np.testing.assert_allclose(
        interval(performance_profile(resampled, thresholds)), case["profile_interval"], atol=1e-12
    )


@pytest.mark.parametrize("name", list(STATISTICS))
def test_intervals_of_own_draws_are_those_of_rliable_within_the_error_of_the_draws(
    case: dict[str, Any], name: str
) -> None:
    statistic = median_as_rliable if name == "median" else STATISTICS[name]
    x = strata(case["x"])
    drawn = draw(x, "a setting")
    found = estimate(statistic, x, drawn)
    # Four standard errors of the rank at which a quantile of 2,000 draws stands: it lies between these two quantiles.
    off = 100 * 4 * np.sqrt(0.025 * 0.975 / ORACLE["repetitions"])
    resampled = statistic([scores[of] for scores, of in zip(x, drawn, strict=True)])
    for value, quantile, theirs in zip((found.lower, found.upper), (2.5, 97.5), case["intervals"][name], strict=True):
        least, most = np.percentile(resampled, [max(0, quantile - off), min(100, quantile + off)])
        assert least - 1e-12 <= theirs <= most + 1e-12
        assert least <= value <= most


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 11, 40])
def test_the_interquartile_mean_is_scipys_trimmed_mean(n: int) -> None:
    scores = np.random.default_rng(n).normal(size=n)
    assert pooled_interquartile_mean([scores]) == pytest.approx(stats.trim_mean(scores, 0.25))


def test_the_interquartile_mean_of_eight_leaves_two_out_at_each_end() -> None:
    assert pooled_interquartile_mean([np.array([1000.0, 1, 2, 3]), np.array([4.0, 5, -1000, 6])]) == (2 + 3 + 4 + 5) / 4


@pytest.mark.parametrize("name", ["iqm", "mean", "median"])
def test_the_interval_is_scipys_percentile_bootstrap_within_the_error_of_the_draws(name: str) -> None:
    scores = np.random.default_rng(3).normal(100, 20, 12)
    ours = estimate(STATISTICS[name], [scores], draw([scores], "a"))
    theirs = stats.bootstrap(
        (scores,),
        lambda sample, axis: STATISTICS[name]([np.moveaxis(sample, axis, -1)]),
        n_resamples=statistics.RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(5),
    )
    # Both ends wander by about one percentage point of rank: four standard errors, of the difference of two draws.
    off = 100 * 4 * np.sqrt(2 * 0.025 * 0.975 / statistics.RESAMPLES)
    for end, quantile, other in zip((ours.lower, ours.upper), (2.5, 97.5), theirs.confidence_interval, strict=True):
        least, most = np.percentile(theirs.bootstrap_distribution, [quantile - off, quantile + off])
        assert least <= end <= most
        assert least <= other <= most


def test_the_probability_of_improvement_is_scipys_mann_whitney_and_brunner_munzel() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 9, 7) / 1.0, generator.integers(0, 9, 11) / 1.0
    ours = probability_of_improvement([x], [y])
    assert ours == pytest.approx(stats.mannwhitneyu(x, y, alternative="greater").statistic / (7 * 11))
    # The test's statistic grows with P(y > x) + P(y = x) / 2 - 1/2, whose value it does not give: its sign does.
    assert np.sign(stats.brunnermunzel(x, y).statistic) == np.sign(0.5 - ours)
    assert probability_of_improvement([y], [x]) == pytest.approx(1 - ours)


def test_ties_count_half() -> None:
    assert probability_of_improvement([np.array([1.0, 2.0])], [np.array([1.0, 3.0])]) == (0.5 + 0 + 1 + 0) / 4


def test_environments_weigh_the_same_however_many_runs_they_have() -> None:
    unequal = [np.array([0.0]), np.array([1.0, 1.0, 1.0])]
    assert mean(unequal) == 0.5
    assert performance_profile(unequal, np.array([0.5])) == pytest.approx([0.5])


def test_a_profile_counts_what_is_above_and_not_what_is_equal() -> None:
    np.testing.assert_array_equal(performance_profile([np.array([1.0, 2.0])], np.array([0.0, 1.0, 2.0])), [1, 0.5, 0])


def test_resampled_improvement_is_that_of_the_scores_that_were_drawn() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=4), generator.normal(size=5)
    x_drawn, y_drawn = generator.integers(0, 4, (6, 4)), generator.integers(0, 5, (6, 5))
    expected = [probability_of_improvement([x[i]], [y[j]]) for i, j in zip(x_drawn, y_drawn, strict=True)]
    np.testing.assert_allclose(resampled_improvement([x], [y], [counts(x_drawn)], [counts(y_drawn)]), expected)


def test_one_run_has_no_interval_and_two_have_one() -> None:
    one, two = [np.array([1.0])], [np.array([1.0, 3.0])]
    assert estimate(mean, one, draw(one, "a")).lower is None
    found = estimate(mean, two, draw(two, "a"))
    assert (found.value, found.lower, found.upper) == (2, 1, 3)


def test_a_settings_draws_are_its_own_and_the_same_each_time() -> None:
    scores = [np.arange(10.0)]
    np.testing.assert_array_equal(draw(scores, "a"), draw(scores, "a"))
    assert not np.array_equal(draw(scores, "a"), draw(scores, "b"))


def test_intervals_of_normal_scores_cover_the_mean_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    n_covered = 0
    for index in range(200):
        scores = [generator.normal(0, 1, 30)]
        found = estimate(mean, scores, draw(scores, str(index)))
        assert found.lower is not None
        assert found.upper is not None
        n_covered += found.lower <= 0 <= found.upper
    # 95 % of 200 is 190, with a standard deviation of 3; percentile intervals of 30 runs cover a little less.
    assert 180 <= n_covered <= 198
