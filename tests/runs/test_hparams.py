"""Runs on TensorBoard's HPARAMS page: completed, failed, refused by their own environment, stopped and gone on."""

import json
from pathlib import Path

from bbrl_exp.records.summary import Summary
from bbrl_exp.tracking.hparams import HparamsEntry, mark_failed

from ..tracking.hparams_page import Row, hparams_page
from .conftest import CommandLine

SMALL = ["total_steps=1024", "eval.every=512", "eval.episodes=1", "eval.final_episodes=2"]


def row_of(setting: str, folder: Path) -> Row:
    (row,) = (row for row in hparams_page(folder).rows if row.name.startswith(setting))
    return row


def test_seeds_are_averaged_failed_ones_marked_and_other_settings_stand_beside(command_line: CommandLine):
    ppo = ["agent=ppo", *SMALL]
    for seed in (0, 1):
        assert command_line(*ppo, f"seed={seed}", f"name=good{seed}").code == 0
    assert command_line(*ppo, "agent.learner.learning_rate=1e20", "total_steps=2048", "name=bad").code == 3
    assert command_line("total_steps=512", "name=chance").code == 0
    page = hparams_page(Path("outputs"))
    assert len(page.rows) == 3
    assert {"agent", "env", "batch_size", "agent.learner.learning_rate"} <= set(page.columns)
    assert "total_steps" not in page.columns
    summaries = [json.loads((Path("outputs") / name / "summary.json").read_text()) for name in ("good0", "good1")]
    good = next(row for row in page.rows if "good0" in row.trials)
    assert good.trials == {"good0": "STATUS_SUCCESS", "good1": "STATUS_SUCCESS"}
    for name in ("return_mean", "eval_return_mean", "eval_curve_mean", "best_eval_return_mean"):
        mean = sum(summary[name] for summary in summaries) / 2
        assert abs(good.metrics[f"(final)/{name}"] - mean) < 1e-4 * abs(mean)
    bad = next(row for row in page.rows if "bad" in row.trials)
    assert bad.trials == {"bad": "STATUS_FAILURE"}
    assert bad.parameters["agent.learner.learning_rate"] == 1e20
    assert {name for name in bad.metrics if name.startswith("(final)/")} == {"(final)/failed"}
    chance = row_of("random-cartpole-", Path("outputs"))
    assert chance.metrics["(final)/failed"] == 0.0
    assert page.metrics[:5] == [
        "(final)/best_eval_return_mean",
        "(final)/eval_curve_mean",
        "(final)/eval_return_mean",
        "(final)/failed",
        "(final)/return_mean",
    ]


def test_a_stopped_run_is_unknown_until_it_has_gone_on(command_line: CommandLine, users_package: str):
    run = ["agent=constant", "agent.steps_per_chunk=8", "total_steps=128", "name=mine"]
    stops = f"+agent.members.stops={{_target_: {users_package}.Stops, at: 3}}"
    assert command_line(*run, stops).code == 143
    (row,) = hparams_page(Path("outputs")).rows
    assert row.trials == {"mine": "STATUS_UNKNOWN"}
    while (ended := command_line(*run, stops)).code == 143:
        pass
    assert ended.code == 0
    (row,) = hparams_page(Path("outputs")).rows
    assert row.trials == {"mine": "STATUS_SUCCESS"}


def test_a_run_that_is_made_longer_keeps_its_row_and_shows_no_length(command_line: CommandLine):
    run = ["agent.steps_per_chunk=8", "name=mine"]
    for steps in (64, 128):
        assert command_line(*run, f"total_steps={steps}").code == 0
    row = hparams_page(Path("outputs")).row
    assert row.trials == {"mine": "STATUS_SUCCESS"}
    assert "total_steps" not in row.parameters


def test_a_job_that_could_not_start_and_now_can_is_on_the_page_once(command_line: CommandLine):
    folder = Path("outputs/mine")
    folder.mkdir(parents=True)
    Summary("failed", agent=None, env=None, env_id=None, seed=None, batch_size=None).write(folder)
    mark_failed(folder, 0, HparamsEntry({"agent": "randm"}, "a"))
    assert hparams_page(Path("outputs")).row.trials == {"mine": "STATUS_FAILURE"}
    assert command_line("total_steps=64", "agent.steps_per_chunk=8", "name=mine").code == 0
    row = hparams_page(Path("outputs")).row
    assert (row.trials, row.parameters["agent"]) == ({"mine": "STATUS_SUCCESS"}, "random")


def test_a_run_without_tensorboard_gets_no_event_file_when_it_fails(command_line: CommandLine, users_package: str):
    broken = f"+agent.members.broken={{_target_: {users_package}.Broken, at: 5}}"
    assert command_line("total_steps=64", "tracking.tensorboard=false", broken, "name=mine").code == 1
    assert not list(Path("outputs/mine").glob("events*"))
    assert command_line("total_steps=64", broken, "name=yours").code == 1
    assert hparams_page(Path("outputs")).row.trials == {"yours": "STATUS_FAILURE"}
