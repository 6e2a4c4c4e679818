"""``schedule_steps``: a run with a schedule is extended, and the schedule keeps its last value."""

import json
import os
import signal
from pathlib import Path

import pytest

from .conftest import CommandLine
from .same_run import assert_same_run, csv_of, summary_of
from .test_going_on import PPO, RUN, at

STRAIGHT = Path("outputs") / "straight"
DQN = [
    "agent=dqn",
    "batch_size=2",
    "agent.learner.learning_starts=100",
    "agent.learner.updates_per_step=0.05",
    "total_steps=1024",
    "checkpoint.every=200",
    "eval.every=0",
    "eval.final_episodes=1",
    "tracking.metrics_every=200",
]


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
def test_an_extended_run_ends_like_one_whose_schedule_was_as_short_from_the_start(
    agent: list[str], command_line: CommandLine
) -> None:
    longer = [
        *(text for text in agent if not text.startswith("total_steps")),
        "total_steps=2048",
        "schedule_steps=1000",
    ]
    assert command_line(*longer, "name=straight").code == 0
    assert command_line(*agent, "total_steps=1000", "name=run").code == 0
    assert summary_of(RUN)["env_steps"] in (1000, 1024)
    assert command_line(*longer, "name=run").code == 0
    assert summary_of(RUN)["env_steps"] == 2048
    assert_same_run(STRAIGHT, RUN)


def test_a_schedule_keeps_its_last_value(command_line: CommandLine) -> None:
    command_line(*PPO, "name=run", "total_steps=2048", "schedule_steps=1024", "tracking.metrics_every=1")
    rates = {int(row[0]): float(row[2]) for row in csv_of(RUN) if row[1] == "learner/learning_rate"}
    assert rates[256] > rates[512] > rates[1024] > 0
    assert rates[1024] == pytest.approx(rates[128] / 8)
    assert {rates[step] for step in rates if step >= 1024} == {rates[1024]}


def test_an_extended_run_resumes_after_a_stop(command_line: CommandLine) -> None:
    longer = [*PPO, "total_steps=2048", "schedule_steps=1024"]
    assert command_line(*longer, "name=straight").code == 0
    assert command_line(*PPO, "name=run").code == 0
    with at(1500, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert command_line(*longer, "name=run").code == 128 + signal.SIGTERM
    assert command_line(*longer, "name=run").code == 0
    assert_same_run(STRAIGHT, RUN)
    again = command_line(*longer, "name=run")
    assert again.out.startswith("already complete")


def test_a_refused_extension_names_what_would_do(command_line: CommandLine) -> None:
    assert command_line(*PPO, "name=run").code == 0
    longer = "total_steps=2048"
    for more in ([longer], [longer, "schedule_steps=2000"], [longer, "dry_run=true"]):
        ended = command_line(*PPO, *more, "name=run")
        assert ended.code == 2
        assert ended.err == (
            f"error: key 'total_steps' = 2048: the run in {RUN.absolute()} has 1024, and "
            "agent.learner.anneal_learning_rate depends on it; schedule_steps=1024 keeps the schedule as it was, and "
            f"its last value after that; init_from={RUN.absolute()} begins another run with what this one has learned\n"
        )
    ended = command_line(*PPO, "schedule_steps=512", "name=run")
    assert (ended.code, "it differs in schedule_steps" in ended.err) == (2, True)


def test_schedule_steps_that_say_what_holds_anyway_change_nothing(command_line: CommandLine) -> None:
    assert command_line(*PPO, "name=run").code == 0
    assert command_line(*PPO, "schedule_steps=1024", "name=run").out.startswith("already complete")
    assert command_line(*PPO, "schedule_steps=1024", "name=straight").code == 0
    assert_same_run(STRAIGHT, RUN)
    one, other = (json.loads((folder / "summary.json").read_text())["config_hash"] for folder in (RUN, STRAIGHT))
    assert one == other


def test_the_jobs_of_a_sweep_with_a_schedule_are_extended_in_their_folders(command_line: CommandLine) -> None:
    sweep = ["-m", *PPO, "name=s", "seed=1,2", "total_steps=256", "eval.every=0", "eval.final_episodes=0"]
    assert command_line(*sweep).code == 0
    assert command_line(*sweep, "total_steps=512", "schedule_steps=256").code == 0
    folders = sorted(path.parent for path in (Path("outputs") / "multirun" / "s").glob("*/summary.json"))
    assert [(folder.name, summary_of(folder)["env_steps"]) for folder in folders] == [("seed=1", 512), ("seed=2", 512)]
