"""What a learner tells: the newest numbers, every so many steps, and none that is no number."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from bbrl_exp.errors import DivergedError
from bbrl_exp.training.metrics import NewestMetrics, finite_metrics


def test_the_newest_metrics_are_taken_when_the_next_multiple_is_reached() -> None:
    metrics, taken = NewestMetrics(every=100, learner="Mine"), {}
    for env_steps in range(40, 401, 40):
        metrics.add({"losses/q": torch.tensor(float(env_steps)), "learner/updates": env_steps})
        if metrics.due(env_steps):
            taken[env_steps] = metrics.take(env_steps)
    assert taken == {n: {"losses/q": n, "learner/updates": n} for n in (40, 120, 200, 320, 400)}


def test_an_update_without_metrics_leaves_the_ones_before() -> None:
    metrics = NewestMetrics(every=1, learner="Mine")
    assert not metrics.due(10)
    metrics.add({"losses/q": 1.0})
    metrics.add({})
    assert metrics.due(10)
    assert metrics.take(10) == {"losses/q": 1.0}
    assert not metrics.has_any


def test_an_update_that_tells_less_leaves_the_rest_as_it_was() -> None:
    metrics = NewestMetrics(every=1, learner="Mine")
    metrics.add({"losses/q": 1.0, "learner/epsilon": 0.5})
    metrics.add({"learner/epsilon": 0.4})
    assert metrics.take(10) == {"losses/q": 1.0, "learner/epsilon": 0.4}


@pytest.mark.parametrize("value", [torch.tensor(float("nan")), float("inf")])
def test_a_number_that_is_none_is_named(value: float | torch.Tensor) -> None:
    with pytest.raises(DivergedError, match=r"'losses/q' is (nan|inf) after 1,000 environment steps"):
        finite_metrics({"losses/policy": 1.0, "losses/q": value}, 1000)


def test_numbers_of_python_numpy_and_torch_are_metrics() -> None:
    metrics = NewestMetrics(every=10, learner="Mine")
    metrics.add({"a": 1, "b": np.float32(2.0), "c": np.array(3.0), "d": torch.tensor([4.0]), "e": np.array([[5.0]])})
    assert metrics.take(10) == {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 5.0}


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (None, r"Mine.update gave NoneType: must be a mapping of metrics, \{\} for none"),
        ({"losses/a": torch.zeros(8, 2)}, r"Mine: metric 'losses/a' is a tensor \[8, 2\]: must be a number"),
        ({"losses/a": 1.0, "losses/b": "low"}, "Mine: metric 'losses/b' is 'low': must be a number"),
        ({"losses/a": np.array(["low"])}, "Mine: metric 'losses/a' is array.*: must be a number"),
        ({"losses/a": np.array([None])}, "Mine: metric 'losses/a' is array.*: must be a number"),
        ({"losses/a": np.complex64(1j)}, "Mine: metric 'losses/a' is .*: must be a number"),
        ({"losses/a": torch.tensor(1j)}, r"Mine: metric 'losses/a' is a tensor \[\]: must be a number"),
        ({"losses/a": 10**400}, "Mine: metric 'losses/a' is 1000.*: must be a number"),
    ],
)
def test_what_is_no_metric_is_named(metrics: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        NewestMetrics(every=10, learner="Mine").add(metrics)


@pytest.mark.parametrize(
    "name", ["losses/a,b", "losses/a\nb", "losses/a\r", 'losses/"a"', "", "losses/\ud800", 3, None]
)
def test_a_name_that_cannot_be_recorded_is_refused_with_learner_and_metric(name: Any) -> None:
    with pytest.raises(
        TypeError, match=f"^Mine: metric {re.escape(repr(name))}: must be a text without commas"
    ) as error:
        NewestMetrics(every=10, learner="Mine").add({name: 1.0})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "eval/return_mean",
        "final_eval/return",
        "train/return",
        "time/steps_per_second",
        "memory/policy/state_norm",
        "workspace/action/mean",
        "Final/x",
        "(final)/x",
        "1_learning_curves/x",
    ],
)
def test_a_name_of_what_the_run_records_itself_is_refused(name: str) -> None:
    with pytest.raises(
        TypeError, match=re.escape(f"Mine: metric '{name}': '{name.split('/')[0]}' is for what the run ")
    ):
        NewestMetrics(every=10, learner="Mine").add({"losses/a": 1.0, name: 1.0})
