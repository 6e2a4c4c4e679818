"""The environment, the agent and the files of docs/own_environment.md run as the page says, and remember."""

from pathlib import Path

import pytest
from pages import Page, job_summaries, run, summary

PAGE = Page.read("own_environment.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PAGE.write_files(tmp_path)
    return tmp_path


def test_the_page_s_files_are_there() -> None:
    assert len(PAGE.files) == 5
    assert len(PAGE.commands) == 2


def test_the_page_s_environment_is_one_like_any_other(folder: Path) -> None:
    run(folder, PAGE.commands[0], "total_steps=1024", "name=x", "eval.final_episodes=2", "eval.every=0")
    found = summary(folder, "x")
    assert (found["env"], found["env_id"], found["status"]) == ("tmaze", "TMaze-v0", "completed")


def test_the_page_s_agent_remembers_what_ppo_cannot(folder: Path) -> None:
    command = PAGE.commands[1].replace(",recurrent_ppo", "").replace("50_000", "10_240")
    run(folder, command, "tracking=none", "name=x")
    returns = {found["agent"]: found["eval_return_mean"] for found in job_summaries(folder, "x")}
    assert returns["ppo_with_cue"] > 0.9
    assert returns["ppo"] < 0.8
