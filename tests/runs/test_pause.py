"""``pause_after``: a run stops at a number of environment steps, and goes on from there to the bit."""

import shlex
import signal
from pathlib import Path

import pytest

from .conftest import CommandLine
from .same_run import assert_same_run, csv_of, summary_of
from .test_going_on import PPO, RANDOM, RUN, SAC, at, terminate

STRAIGHT = Path("outputs") / "straight"


def evaluations_of(folder: Path) -> list[int]:
    """The environment steps at which it was evaluated along the way."""
    return [int(row[0]) for row in csv_of(folder) if row[1] == "eval/return_mean"]


@pytest.mark.parametrize("agent", [RANDOM, PPO, SAC], ids=["random", "ppo", "sac"])
def test_a_run_that_was_paused_twice_ends_like_one_that_was_not(agent: list[str], command_line: CommandLine) -> None:
    assert command_line(*agent, "name=straight").code == 0
    for pause_after in (300, 600):
        assert command_line(*agent, "name=run", f"pause_after={pause_after}").code == 0
        summary = summary_of(RUN)
        assert summary["status"] == "paused"
        assert pause_after <= summary["env_steps"] < pause_after + 128
        assert summary["error"] == f"paused after {summary['env_steps']} environment steps (pause_after)"
    assert command_line(*agent, "name=run").code == 0
    assert_same_run(STRAIGHT, RUN)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_evaluation_that_is_due_where_a_run_pauses_is_there(workers: int, command_line: CommandLine) -> None:
    command = [*PPO, "name=run", "pause_after=384", "eval.every=384", f"eval.workers={workers}"]
    for _ in range(2):  # also where the run stands there already
        assert command_line(*command).code == 0
        assert evaluations_of(RUN) == [384]
        assert summary_of(RUN)["env_steps"] == 384


def test_a_pause_after_the_end_is_none(command_line: CommandLine) -> None:
    assert command_line(*RANDOM, "name=run", "pause_after=1024").code == 0
    assert summary_of(RUN)["status"] == "completed"


def test_a_signal_counts_more_than_the_pause(command_line: CommandLine) -> None:
    with at(384, terminate):
        assert command_line(*RANDOM, "name=run", "pause_after=384").code == 128 + signal.SIGTERM
    assert summary_of(RUN)["error"] == "stopped by SIGTERM"


def test_the_command_that_a_paused_run_prints_goes_on_to_its_end(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/run.py", *RANDOM, "name=run", "pause_after=300"])
    printed = command_line(*RANDOM, "name=run", "pause_after=300").out
    again = shlex.split(next(line for line in printed.splitlines() if line.startswith("to resume: ")))
    assert command_line(*again[again.index("scripts/run.py") + 1 :]).code == 0
    assert summary_of(RUN)["status"] == "completed"


def test_a_pause_that_nothing_could_go_on_from_is_refused(command_line: CommandLine) -> None:
    ended = command_line(*RANDOM, "name=run", "pause_after=300", "checkpoint.every=0")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "key 'pause_after' = 300: must be null with checkpoint.every=0" in ended.err
    assert not RUN.exists()
