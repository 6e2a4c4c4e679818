"""The commands of docs/command_line.md work from a folder outside the repository, and do what the page says."""

import re
from pathlib import Path

import pytest
from pages import ROOT, Page, job_summaries, run, summary

PAGE = Page.read("command_line.md")
UNMASKED, STACKED, NARROW, POLICIES, LISTED = PAGE.commands[:5]
SHORT = ("total_steps=2048", "eval.every=0", "eval.final_episodes=2", "tracking=none", "agent.steps_per_chunk=64")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PAGE.write_files(tmp_path)
    return tmp_path


def test_a_run_with_a_wrapper_switched_off_is_the_run_without_it(folder: Path) -> None:
    ended = run(folder, UNMASKED, *SHORT)
    assert "switched off: env.wrappers.mask" in ended.stdout
    run(folder, UNMASKED.replace("env.wrappers.mask=null name=unmasked", "~env.wrappers.mask name=removed"), *SHORT)
    unmasked, removed = summary(folder, "unmasked"), summary(folder, "removed")
    assert unmasked["config_hash"] == removed["config_hash"]
    assert unmasked["eval_returns"] == removed["eval_returns"]


def test_a_run_with_something_switched_off_resumes_the_one_without_it(folder: Path) -> None:
    run(folder, UNMASKED, *SHORT)
    without = UNMASKED.replace("env.wrappers.mask=null name=unmasked", "~env.wrappers.mask name=stopped")
    run(folder, without, *SHORT, "pause_after=1024")
    run(folder, UNMASKED.replace("name=unmasked", "name=stopped"), *SHORT)
    straight, stopped = summary(folder, "unmasked"), summary(folder, "stopped")
    assert (straight["env_steps"], straight["eval_returns"]) == (stopped["env_steps"], stopped["eval_returns"])
    assert "already complete" in run(folder, without, *SHORT).stdout


def test_a_sweep_over_null_and_a_node_runs_both(folder: Path) -> None:
    run(folder, STACKED, *SHORT)
    without, stacked = sorted(job_summaries(folder, "stacked"), key=lambda job: "FrameStack" in str(job["overrides"]))
    assert without["status"] == stacked["status"] == "completed"
    assert "+env.wrappers.stack=null" in without["overrides"]
    assert "FrameStackObservation" in str(stacked["overrides"])


def test_a_policy_that_replaces_another_inherits_what_it_takes_and_resumes(folder: Path) -> None:
    ended = run(folder, NARROW, *SHORT)
    (said,) = re.findall(r"`(not taken by .*?)`", (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8"))
    assert said in ended.stdout
    run(folder, NARROW.replace("name=narrow", "name=stopped"), *SHORT, "pause_after=1024")
    run(folder, NARROW.replace("name=narrow", "name=stopped"), *SHORT)
    assert summary(folder, "stopped")["eval_returns"] == summary(folder, "narrow")["eval_returns"]
    wrong = run(folder, NARROW, *SHORT, "+agent.members.policy.n_hiden=3", exit_code=2)
    assert "NarrowPolicy has no parameter 'n_hiden'; did you mean 'n_hidden'?" in wrong.stderr


def test_a_sweep_over_classes_gives_each_what_it_takes(folder: Path) -> None:
    run(folder, POLICIES, *SHORT)
    jobs = job_summaries(folder, "policies")
    assert [job["status"] for job in jobs] == ["completed", "completed"]
    configurations = sorted(folder.glob("outputs/multirun/policies/*/.hydra/config.yaml"))
    given = [
        ("n_hidden" in text, "activation: tanh" in text.partition("learner:")[0])
        for text in map(Path.read_text, configurations)
    ]
    assert sorted(given) == [(False, False), (False, True)]


def test_list_shows_what_an_agent_inherits_as_the_page_says(folder: Path) -> None:
    printed = run(folder, LISTED).stdout
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    shown = page.partition("```text\nnarrow: ")[2].partition("…\n```")[0]
    assert printed.startswith(f"narrow: {shown}")
    assert "  agent.learner.discount=0.99 " in printed
    assert "hidden_sizes" not in printed.partition("agent.learner:")[0]


def test_list_shows_the_tracking_options_as_the_page_says(folder: Path) -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    shown = page.partition("$ python scripts/list.py tracking\n")[2].partition("```")[0]
    assert run(folder, "python scripts/list.py tracking").stdout == shown
