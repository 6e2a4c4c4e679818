"""TensorBoard's pages in a real browser: what stands on them is what the runs wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

import pytest

from .browser import Browser
from .conftest import Runs

FINAL = ("return_mean", "eval_return_mean", "eval_curve_mean", "best_eval_return_mean")
DIGITS = 5e-4  # the page shows five


@pytest.fixture(autouse=True)
def _no_errors_in_the_console(browser: Browser) -> Iterator[None]:
    yield
    assert browser.errors() == []


def page(tensorboard: str, name: str, *tags: str) -> str:
    """The address of a page that shows these tags alone."""
    pattern = quote("|".join(f"^{tag}$" for tag in tags), safe="")
    return f"{tensorboard}#{name}&tagFilter={pattern}" if tags else f"{tensorboard}#{name}"


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", ["timeseries", "scalars"])
def test_the_first_charts_are_the_learning_curves(browser: Browser, tensorboard: str, name: str) -> None:
    browser.open(page(tensorboard, name), width=1500)
    text = browser.wait_for("1_learning_curves", "(final)", "multirun/sweep/agent=ppo,seed=1")
    groups = ("1_learning_curves", "(final)", "eval", "losses", "train", "workspace")
    found = dict.fromkeys(line for line in text.splitlines() if line in groups)
    assert list(found)[:2] == ["1_learning_curves", "(final)"]
    if name == "timeseries":
        browser.wait_until(lambda: len(browser.evaluate("line-chart path", "element.tagName")) > 0, "a line")
        browser.screenshot("tensorboard_time_series")


def test_scalars_shows_variables_returns_evaluations_and_losses(browser: Browser, tensorboard: str) -> None:
    tags = ("eval/return_mean", "losses/policy", "train/return", "workspace/env/env_obs/0/mean")
    browser.open(page(tensorboard, "scalars", *tags))
    browser.wait_for("Tags matching", *tags, "multirun/sweep/agent=ppo,seed=1", "diverges")
    browser.wait_until(lambda: len(browser.evaluate("path.line[d]", "element.tagName")) >= 4 * 2, "two lines a chart")
    browser.screenshot("tensorboard_scalars")


def test_hparams_has_one_row_a_setting_with_the_mean_of_its_seeds_and_marks_what_failed(
    browser: Browser, tensorboard: str, runs: Runs
) -> None:
    browser.open(page(tensorboard, "hparams"), width=2200, height=600)
    browser.wait_for("Trial ID", "(final)/failed")
    heads, *lines = browser.wait_until(lambda: next((rows for rows in browser.tables() if len(rows) > 4), None), "rows")
    rows = [dict(zip(heads, line, strict=False)) for line in lines]
    assert len(rows) == len({row["Trial ID"] for row in rows}) == 4
    for agent in ("ppo", "random"):
        (row,) = (row for row in rows if row["agent"] == agent and not row["agent.learner.learning_rate"])
        summaries = [summary(runs.job(agent, seed)) for seed in (0, 1)]
        for name in FINAL:
            assert float(row[f"(final)/{name}"]) == pytest.approx(fmean(one[name] for one in summaries), rel=DIGITS)
        assert float(row["(final)/failed"]) == 0
        assert float(row["batch_size"]) == 8
    (diverged,) = (row for row in rows if row["agent.learner.learning_rate"])
    assert float(diverged["agent.learner.learning_rate"]) == 1e20
    (refused,) = (row for row in rows if row["agent"] == "ddpg")
    for row in (diverged, refused):
        assert float(row["(final)/failed"]) == 1
        assert [row[f"(final)/{name}"] for name in FINAL] == [""] * len(FINAL)
    browser.screenshot("tensorboard_hparams")


def test_histograms_shows_returns_observations_actions_and_rewards(browser: Browser, tensorboard: str) -> None:
    tags = ("eval/return", "histograms/action", "histograms/env/env_obs/0", "histograms/env/reward")
    browser.open(page(tensorboard, "histograms", *tags))
    browser.wait_for("Tags matching", *tags, "multirun/sweep/agent=ppo,seed=1")
    browser.screenshot("tensorboard_histograms")


def test_images_shows_the_graph_and_the_last_policy_in_motion(browser: Browser, tensorboard: str) -> None:
    browser.open(page(tensorboard, "images", "variables", "last_policy"), height=1300)
    browser.wait_for("Tags matching", "variables", "last_policy", "multirun/sweep/agent=ppo,seed=1")
    widths = browser.wait_until(
        lambda: [width for width in browser.evaluate("img", "element.naturalWidth") if width], "a picture"
    )
    assert 600 in widths  # CartPole's
    browser.screenshot("tensorboard_images")


def test_text_shows_configuration_graph_table_of_variables_and_plan(browser: Browser, tensorboard: str) -> None:
    browser.open(page(tensorboard, "text", "config", "graph"))
    browser.wait_for("_target_: bbrl_exp.learners.ppo.PPO", "StochasticPolicy 'policy'")
    browser.open(page(tensorboard, "text", "plan", "workspace"), height=1300)
    browser.wait_for("2 of 128 time steps x 8 environments", "env/cumulated_reward", "[T, 8, 4]")
    browser.screenshot("tensorboard_text")
