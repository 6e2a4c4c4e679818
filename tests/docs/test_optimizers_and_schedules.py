"""The optimisers, schedules and the learner of docs/optimizers_and_schedules.md run as the page says, and resume."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pages import Page, job_summaries, run, summary

PAGE = Page.read("optimizers_and_schedules.md")
SHORT = ("total_steps=2560", "eval.every=0", "eval.final_episodes=4", "checkpoint.every=640")
ADAMW, COSINE, SWEEP, LION, WARMUP, WAVES, TWO = range(7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page")
    PAGE.write_files(path)
    return path


def rows(folder: Path, name: str, *starts: str) -> list[tuple[str, str, str]]:
    """What a run recorded under the names that begin so: steps, name, value."""
    with (folder / "outputs" / name / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [(row[0], row[1], row[2]) for row in csv.reader(file) if row[1].startswith(starts)]


@pytest.mark.parametrize("command", [ADAMW, COSINE])
def test_a_command_of_the_page_runs(folder: Path, command: int) -> None:
    run(folder, PAGE.commands[command], *SHORT, f"name=command_{command}")
    assert summary(folder, f"command_{command}")["status"] == "completed"


def test_a_warm_up_ends_where_the_page_says(folder: Path) -> None:
    run(folder, PAGE.commands[WARMUP], *SHORT, "total_steps=2600", "agent.learner.learning_starts=2500", "name=warmup")
    rates = rows(folder, "warmup", "learner/policy_learning_rate")
    assert rates
    assert all(0 <= float(value) <= 1e-3 for _, _, value in rates)


def test_optimisers_are_swept_by_their_class(folder: Path) -> None:
    run(folder, PAGE.commands[SWEEP], *SHORT, "name=sweep")
    returns = [found["eval_returns"] for found in job_summaries(folder, "sweep")]
    assert len(returns) == 2
    assert returns[0] != returns[1]


@pytest.mark.parametrize("command", [LION, WAVES, TWO])
def test_what_the_page_shows_resumes_as_if_it_had_not_stopped(folder: Path, command: int) -> None:
    straight, stopped = f"straight_{command}", f"stopped_{command}"
    run(folder, PAGE.commands[command], *SHORT, f"name={straight}")
    run(folder, PAGE.commands[command], *SHORT, f"name={stopped}", "pause_after=1280")
    run(folder, PAGE.commands[command], *SHORT, f"name={stopped}")
    assert summary(folder, stopped)["eval_returns"] == summary(folder, straight)["eval_returns"]
    recorded = rows(folder, stopped, "losses/", "learner/", "train/")
    assert recorded == rows(folder, straight, "losses/", "learner/", "train/")
    assert recorded


def test_a_run_is_made_longer_where_its_schedule_does_not_depend_on_its_length(folder: Path) -> None:
    run(folder, PAGE.commands[WAVES], *SHORT, "name=longer")
    run(folder, PAGE.commands[WAVES], *SHORT, "name=longer", "total_steps=5120")
    assert summary(folder, "longer")["env_steps"] == 5120
    run(folder, PAGE.commands[TWO], *SHORT, "name=as_long")
    refused = run(folder, PAGE.commands[TWO], *SHORT, "name=as_long", "total_steps=5120", exit_code=2)
    assert "agent.learner.learning_rate depends on it; schedule_steps=2560 keeps the schedule" in refused.stderr
