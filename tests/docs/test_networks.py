"""The networks of docs/networks.md run as the page says, learn, resume with the same bits, and are swept."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import Page, job_summaries, run, summary

PAGE = Page.read("networks.md")
PPO, SAC, SWEEP, SHARED, PARTS = PAGE.commands
FEW = ("eval.every=0", "eval.final_episodes=10", "tracking=none")
OFF_POLICY = ("agent.learner.learning_starts=64", "agent.learner.updates_per_step=0.25")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PAGE.write_files(tmp_path)
    return tmp_path


def returns(folder: Path, command: str, name: str, *options: str) -> list[float]:
    """The returns of the last policy of a command of the page; none where the run is not over."""
    run(folder, command, f"name={name}", *FEW, *options)
    return summary(folder, name)["eval_returns"] or []


@pytest.mark.parametrize(
    ("command", "options", "pause_after"),
    [
        (PPO, ("total_steps=2048", "checkpoint.every=1024"), 1024),
        (SAC, ("total_steps=400", "checkpoint.every=200", *OFF_POLICY), 200),
        (PARTS, ("total_steps=800", "checkpoint.every=400", *OFF_POLICY), 400),
    ],
    ids=["PPO", "SAC", "DQN"],
)
def test_a_resumed_run_is_a_straight_one(
    folder: Path, command: str, options: tuple[str, ...], pause_after: int
) -> None:
    straight = returns(folder, command, "straight", *options)
    assert len(straight) == 10
    assert returns(folder, command, "stopped", *options, f"pause_after={pause_after}") == []
    assert returns(folder, command, "stopped", *options) == straight


def test_a_policy_and_a_critic_learn_one_network_of_pictures(folder: Path) -> None:
    learned = returns(folder, SHARED, "shared", "total_steps=12800", "agent.steps_per_chunk=32")
    assert sum(learned) / len(learned) > 16  # a random policy finds 10 of 20


def test_networks_are_swept(folder: Path) -> None:
    run(folder, SWEEP, "total_steps=1024", *FEW)
    jobs = job_summaries(folder, "networks")
    assert [job["status"] for job in jobs] == ["completed", "completed"]
    assert jobs[0]["return_mean"] != jobs[1]["return_mean"]


def test_the_page_s_agent_is_the_page_s_network_in_policy_and_critic(folder: Path) -> None:
    shown = run(folder, f"{PPO.split('agent=ppo')[0]} --config-dir my_conf agent=attentive_ppo total_steps=1024", *FEW)
    assert "completed: 1,024 environment steps" in shown.stdout
