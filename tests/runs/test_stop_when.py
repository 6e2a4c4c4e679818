"""``stop_when``: a run that is good enough is complete, says why, and can be extended bit for bit."""

import json
import os
import signal
from pathlib import Path

import pytest

from bbrl_exp.runs.evaluations import Evaluations

from .conftest import CommandLine
from .same_run import assert_same_run, csv_of, summary_of
from .test_going_on import PPO, RANDOM, RUN, SAC

STRAIGHT = Path("outputs") / "straight"
TWICE = ["stop_when.at_least=-2000", "stop_when.evaluations=2", "eval.every=200"]
WHY = "eval_return_mean was at least -2000 in 2 evaluations in a row (stop_when)"


def sessions_of(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "provenance.json").read_text())["sessions"]
    return found


@pytest.mark.parametrize(("agent", "steps"), [(PPO, 512), (SAC, 400)], ids=["ppo", "sac"])
def test_a_run_that_stopped_early_is_complete_and_extended_bit_for_bit(
    agent: list[str], steps: int, command_line: CommandLine
) -> None:
    ended = command_line(*agent, *TWICE, "name=run")
    assert ended.code == 0
    assert f"stopped after {steps} environment steps: {WHY}" in ended.out
    assert f"stopped early: {WHY}" in ended.out
    assert "to resume" not in ended.out
    found = summary_of(RUN)
    assert (found["status"], found["env_steps"], found["stopped_because"]) == ("completed", steps, WHY)
    assert found["error"] is None
    assert len(found["evaluations"]) == 2
    assert len(found["eval_returns"]) == 1
    assert command_line(*agent, *TWICE, "name=run").out == f"already complete: {WHY}\nfolder: {RUN.absolute()}\n"

    assert command_line(*agent, "eval.every=200", "name=straight").code == 0
    extended = command_line(*agent, "eval.every=200", "name=run")
    assert f"resumes after {steps} environment steps" in extended.out
    assert_same_run(STRAIGHT, RUN)
    assert json.loads((RUN / "summary.json").read_text())["extended_from"] == [steps]
    one, two = sessions_of(RUN)
    assert (one["status"], one["env_steps"], one["stopped_because"]) == ("completed", steps, WHY)
    assert (two["status"], two["env_steps"], two["stopped_because"]) == ("completed", 1024, None)


def test_a_run_is_extended_by_another_number_and_stops_again(command_line: CommandLine) -> None:
    assert command_line(*RANDOM, "name=run", "stop_when.at_least=1").code == 0
    assert summary_of(RUN)["env_steps"] == 512
    again = command_line(*RANDOM, "name=run", "stop_when.at_least=1", "total_steps=4096")
    assert "already complete" in again.out  # no step more is wanted
    assert command_line(*RANDOM, "name=run", "stop_when.no_improvement=1", "total_steps=4096").code == 0
    found = summary_of(RUN)
    assert "has not improved in 1 evaluation:" in found["stopped_because"]
    assert 512 < found["env_steps"] < 4096


@pytest.mark.parametrize("agent", [RANDOM, PPO], ids=["random", "ppo"])
def test_a_run_stops_at_the_same_step_where_another_process_evaluates(
    agent: list[str], command_line: CommandLine
) -> None:
    assert command_line(*agent, *TWICE, "name=straight").code == 0
    assert command_line(*agent, *TWICE, "name=run", "eval.workers=1").code == 0
    assert_same_run(STRAIGHT, RUN)


def test_a_run_stops_when_its_minutes_are_over_and_is_extended(command_line: CommandLine) -> None:
    assert command_line(*RANDOM, "name=straight").code == 0
    assert command_line(*RANDOM, "name=run", "stop_when.wall_minutes=1e-6").code == 0
    found = summary_of(RUN)
    assert (found["status"], found["env_steps"]) == ("completed", 128)
    assert found["stopped_because"] == "1e-06 minutes are over (stop_when)"
    assert "already complete" in command_line(*RANDOM, "name=run", "stop_when.wall_minutes=1e-6").out
    assert command_line(*RANDOM, "name=run", "stop_when=null").code == 0
    assert_same_run(STRAIGHT, RUN)


def test_a_stopped_run_whose_final_evaluation_was_cut_off_ends_like_one_that_was_not(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Evaluations.finish

    def cut_off(self: Evaluations, env_steps: int) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return finish(self, env_steps)

    stops = [*PPO, *TWICE, "eval.every=300"]  # the second one is in the middle of a recording
    assert command_line(*stops, "name=straight").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(Evaluations, "finish", cut_off)
        assert command_line(*stops, "name=run").code == 128 + signal.SIGTERM
    found = summary_of(RUN)
    assert (found["status"], found["stopped_because"]) == ("interrupted", None)
    assert command_line(*stops, "name=run").code == 0
    assert_same_run(STRAIGHT, RUN)


def test_a_run_that_would_pause_where_it_stops_is_complete(command_line: CommandLine) -> None:
    assert command_line(*PPO, *TWICE, "name=straight").code == 0
    for pause_after in (256, 512):
        assert command_line(*PPO, *TWICE, "name=run", f"pause_after={pause_after}").code == 0
    assert_same_run(STRAIGHT, RUN)


def test_the_last_evaluation_of_a_whole_run_stops_nothing(command_line: CommandLine) -> None:
    assert command_line(*RANDOM, "name=run", "eval.every=1024", "stop_when.at_least=1").code == 0
    found = summary_of(RUN)
    assert (found["env_steps"], found["stopped_because"]) == (1024, None)
    assert csv_of(RUN)[-1][0] == "1024"


def test_the_jobs_of_a_sweep_stop_by_themselves_and_are_extended(command_line: CommandLine) -> None:
    sweep = ["-m", *RANDOM, "name=s", "seed=1,2"]
    ended = command_line(*sweep, "stop_when.at_least=1")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert sum(line.startswith("stopped early: seed=") for line in lines) == 2
    folders = [Path("outputs") / "multirun" / "s" / f"seed={seed}" for seed in (1, 2)]
    assert [summary_of(folder)["env_steps"] for folder in folders] == [512, 512]
    assert "0 to run" in command_line(*sweep, "stop_when.at_least=1").out
    assert command_line(*sweep).code == 0
    assert [summary_of(folder)["env_steps"] for folder in folders] == [1024, 1024]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["stop_when.at_least=3", "eval.every=0"], "key 'stop_when.at_least' = 3: must be null with eval.every=0"),
        (
            ["stop_when.no_improvement=3", "eval.every=null"],
            "key 'stop_when.no_improvement' = 3: must be null with eval",
        ),
        (
            ["stop_when.at_least=3", "eval.every=2000"],
            "key 'stop_when.at_least' = 3: must be null with eval.every=2000",
        ),
        (["stop_when.evaluations=2"], "key 'stop_when.evaluations' = 2: must be left out without stop_when.at_least"),
        (
            ["stop_when.metric=eval_success_rate"],
            "key 'stop_when.metric' = 'eval_success_rate': must be left out without",
        ),
        (
            ["stop_when.metric=return", "stop_when.at_least=3"],
            "key 'stop_when.metric' = 'return': must be one of eval_",
        ),
        (
            ["stop_when.metric=eval_success_rate", "stop_when.at_least=1"],
            "key 'stop_when.metric' = 'eval_success_rate': must be a metric of returns; for success rates record the "
            "key of info: env.info_keys=[is_success]",
        ),
        (
            ["stop_when.metric=eval_sample_return_mean", "stop_when.at_least=1"],
            "key 'stop_when.metric' = 'eval_sample_return_mean': must be eval_return_mean with eval.policy=mode",
        ),
        (["stop_when.wall_minutes=0"], "key 'stop_when.wall_minutes' = 0: must be null or a number above 0"),
        (["stop_when.atleast=3"], "key 'stop_when.atleast' is not known; did you mean 'at_least'?"),
    ],
)
def test_a_stop_that_cannot_be_is_refused_in_one_line(
    options: list[str], message: str, command_line: CommandLine
) -> None:
    ended = command_line(*RANDOM, "name=run", *options)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert message in ended.err
    assert not RUN.exists()
