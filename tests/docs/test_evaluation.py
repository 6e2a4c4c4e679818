"""The commands of docs/evaluation.md do what the page says: judge, stop, extend, resume, sweep and report."""

import csv
from pathlib import Path

import pytest
from pages import Page, job_summaries, picture, run, summary

PAGE = Page.read("evaluation.md")
ENOUGH, BOTH, EVALUATE, SAMPLED, COIN, ON, LONGER, REPORTED = PAGE.commands
SHORT, EXTENDED = LONGER.splitlines()
STOPPED, REPORT = REPORTED.splitlines()
QUIET = ("tracking.tensorboard=false", "tracking.console=false")
FEW_EPISODES = ("eval.episodes=2", "eval.final_episodes=2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PAGE.write_files(tmp_path)
    return tmp_path


def test_the_page_s_run_is_judged_by_sampled_actions_and_resumes_after_a_pause(folder: Path) -> None:
    assert len(PAGE.files) == 5
    both = (BOTH, *QUIET, "total_steps=10_000")
    shown = run(folder, *both).stdout
    found = summary(folder, "corridor")
    assert (found["eval_policy"], found["eval_success_rate"], found["eval_mode_success_rate"]) == ("sample", 1.0, 0.0)
    assert found["eval_mode_return_mean"] == -100.0 < found["eval_return_mean"] == found["eval_sample_return_mean"]
    assert (
        f"warning: the most likely actions return -100, sampled actions {found['eval_return_mean']:.4g}: best" in shown
    )
    assert run(folder, EVALUATE).stdout.startswith("return -100 ± 0 over 20 episodes\n")

    assert run(folder, *both, "name=paused", "pause_after=5_000").returncode == 0
    assert summary(folder, "paused")["status"] == "paused"
    run(folder, *both, "name=paused")
    resumed = summary(folder, "paused")
    assert [resumed[name] for name in ("eval_returns", "evaluations")] == [found["eval_returns"], found["evaluations"]]


def test_the_page_s_own_policy_samples_where_it_is_told(folder: Path) -> None:
    run(folder, COIN, *QUIET)
    found = summary(folder, "coin")
    assert (found["eval_mode_return_mean"], found["eval_mode_success_rate"]) == (-100.0, 0.0)
    assert (found["eval_sample_return_mean"] > -20.0, found["eval_sample_success_rate"]) == (True, 1.0)


def test_the_page_s_run_stops_where_it_is_good_enough(folder: Path) -> None:
    run(folder, ENOUGH, *QUIET)
    found = summary(folder, "enough")
    assert found["stopped_because"] == "eval_return_mean was at least 100 in 2 evaluations in a row (stop_when)"
    assert found["env_steps"] < 40_000


def test_one_report_says_which_runs_stopped_were_extended_or_are_judged_by_sampled_actions(folder: Path) -> None:
    for command in (STOPPED, SHORT, EXTENDED):
        run(folder, command, *QUIET, *FEW_EPISODES)
    run(folder, SAMPLED, *QUIET, *FEW_EPISODES, "total_steps=4_000")
    extended = summary(folder, "longer")
    assert (extended["extended_from"], extended["env_steps"]) == ([10_240], 14_336)

    printed = run(folder, REPORT).stdout.splitlines()
    for job in job_summaries(folder, "stopped"):
        steps, why = job["env_steps"], job["stopped_because"]
        place = f"outputs/multirun/stopped/seed={job['seed']}"
        assert f"{place}: stopped early after {steps:,} of 10,000 steps: {why}" in printed
    assert "outputs/longer: extended from 10,240 to 14,336 steps" in printed
    assert sum(line.endswith(": judged by sampled actions") for line in printed) == 4
    with (folder / "outputs" / "report" / "courses.csv").open(newline="") as file:
        rows = [list(row.values())[1:] for row in csv.DictReader(file)]
    assert {tuple(row[:3]) + tuple(row[5:7]) for row in rows} == {
        ("agent=ppo total_steps=10000", "3", "most likely actions", "3", "0"),
        ("agent=ppo total_steps=14000", "1", "most likely actions", "0", "1"),
        ("agent=a2c total_steps=4000", "2", "sampled actions", "0", "0"),
        ("agent=ppo total_steps=4000", "2", "sampled actions", "0", "0"),
    }
    assert {row[7] for row in rows} == {"", "1.0"}
    picture(folder / "outputs" / "report" / "index.html", "courses", "courses", height=600)


def test_the_page_s_stopped_run_goes_on_as_if_it_had_not(folder: Path) -> None:
    shorter = ("total_steps=8_000", "stop_when.at_least=15", "eval.episodes=2", *QUIET)
    run(folder, ENOUGH, *shorter)
    assert summary(folder, "enough")["env_steps"] == 4_096
    run(folder, ON, *shorter[:1], *shorter[2:])
    run(folder, ON, *shorter[:1], *shorter[2:], "name=straight")
    names = ("env_steps", "eval_returns", "evaluations", "episodes", "return_mean")
    assert [summary(folder, "enough")[name] for name in names] == [summary(folder, "straight")[name] for name in names]
