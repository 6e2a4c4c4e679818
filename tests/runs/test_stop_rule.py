"""When a run ends by ``stop_when``, from its evaluations and its time alone."""

import pytest

from bbrl_exp.config.schema import StopSettings
from bbrl_exp.runs.stop_rule import StopRule


def entries(*means: float, name: str = "return_mean") -> list[dict[str, float]]:
    return [{"env_steps": 100 * (index + 1), name: value} for index, value in enumerate(means)]


@pytest.mark.parametrize(
    ("means", "reason"),
    [
        ((), None),
        ((475.0,), None),
        ((480.0, 474.9), None),
        ((474.9, 475.0), None),
        ((10.0, 475.0, 481.0), "eval_return_mean was at least 475 in 2 evaluations in a row (stop_when)"),
    ],
)
def test_a_run_ends_where_the_newest_evaluations_are_all_high_enough(means: tuple[float, ...], reason: str) -> None:
    assert StopRule(StopSettings(at_least=475, evaluations=2)).reason(entries(*means), 0.0) == reason


def test_one_evaluation_suffices_where_nothing_is_said() -> None:
    rule = StopRule(StopSettings(at_least=-200.0))
    assert rule.reason(entries(-200.5), 0.0) is None
    assert rule.reason(entries(-150.25), 0.0) == "eval_return_mean of -150.2 is at least -200 (stop_when)"


def test_a_run_ends_that_has_not_improved_and_an_equal_mean_is_no_improvement() -> None:
    rule = StopRule(StopSettings(no_improvement=2))
    assert rule.reason(entries(1.0, 3.0, 2.0), 0.0) is None
    assert rule.reason(entries(1.0, 3.0, 2.0, 3.5), 0.0) is None
    assert rule.reason(entries(1.0, 3.0, 2.0, 3.0), 0.0) == (
        "eval_return_mean has not improved in 2 evaluations: the best was 3 at 200 environment steps (stop_when)"
    )


def test_a_run_ends_when_its_minutes_are_over() -> None:
    rule = StopRule(StopSettings(wall_minutes=1.5))
    assert rule.reason((), 89.0) is None
    assert rule.reason((), 90.0) == "1.5 minutes are over (stop_when)"
    assert StopRule(StopSettings(wall_minutes=1)).reason((), 60.0) == "1 minute is over (stop_when)"


def test_any_of_the_keys_ends_the_run() -> None:
    rule = StopRule(StopSettings(at_least=10.0, no_improvement=1, wall_minutes=1))
    assert rule.reason(entries(5.0), 59.0) is None
    for evaluations, seconds in ((entries(10.0), 0.0), (entries(5.0, 4.0), 0.0), (entries(5.0), 60.0)):
        assert rule.reason(evaluations, seconds) is not None


def test_the_metric_may_be_that_of_one_way_of_acting() -> None:
    stop = StopSettings(metric="eval_sample_success_rate", at_least=0.5)
    both = [{"env_steps": 100, "success_rate": 0.0, "sample_success_rate": 0.5}]
    assert StopRule(stop, measures_both=True).reason(both, 0.0) is not None
    assert StopRule(stop, measures_both=True).reason(entries(1.0, name="success_rate"), 0.0) is None
    assert StopRule(stop).reason(entries(0.5, name="success_rate"), 0.0) is not None


def test_nothing_ends_a_run_without_a_key() -> None:
    assert StopRule(StopSettings()).reason(entries(1e9), 1e9) is None
    assert StopRule(StopSettings()).in_words is None


def test_a_plan_says_when_a_run_ends() -> None:
    stop = StopSettings(at_least=475, evaluations=2, no_improvement=5, wall_minutes=60)
    assert StopRule(stop).in_words == (
        "eval_return_mean is at least 475 in 2 evaluations in a row or eval_return_mean has not improved in "
        "5 evaluations or 60 minutes are over"
    )
