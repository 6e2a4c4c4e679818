"""Sweeps whose jobs are trained side by side in one process."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bbrl_exp.commands.rerun import main as rerun
from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.config.preparation import PreparedRun
from bbrl_exp.runs.estimate import Estimate
from bbrl_exp.runs.evaluations import Evaluations
from bbrl_exp.runs.run import open_composer
from bbrl_exp.runs.session import Session
from bbrl_exp.runs.stack import run_stack
from bbrl_exp.stacked.stack import Stack
from bbrl_exp.sweeps import preview
from bbrl_exp.training.loop import Chunk

from .conftest import CommandLine
from .same_run import assert_same_run

SIDE = ["-m", "launcher=side_by_side", "env=cartpole", "batch_size=2", "eval.episodes=1", "eval.final_episodes=1"]
PPO = [
    *SIDE,
    "agent=ppo",
    "agent.steps_per_chunk=32",
    "agent.learner.n_epochs=2",
    "total_steps=256",
    "eval.every=128",
    "checkpoint.keep=1",
]
DQN = [*SIDE, "agent=dqn", "agent.learner.learning_starts=32", "total_steps=256", "eval.every=128", "checkpoint.keep=1"]


def summary_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return found


def test_jobs_that_differ_in_seed_and_rate_are_one_stack_with_a_folder_each(
    command_line: CommandLine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = ["seed=1,2,3", "agent.learner.learning_rate=1e-3,3e-4", "name=six"]
    ended = command_line(*PPO, *jobs)
    assert ended.code == 0, ended.err
    assert "side by side: 6 jobs in 1 stack\n" in ended.out
    assert "\n* trained side by side with 5 others: the number is its share\nstack of 6: " in ended.out
    assert " steps/s together\nfolder: " in ended.out
    sweep = tmp_path / "outputs/multirun/six"
    folders = sorted(path for path in sweep.iterdir() if path.is_dir())
    assert len(folders) == 6
    for folder in folders:
        summary = summary_of(folder)
        assert (summary["status"], summary["env_steps"]) == ("completed", 256)
        assert summary["side_by_side_with"] == 5
        assert len(summary["evaluations"]) == 2  # type: ignore[arg-type]
        assert (folder / "checkpoints/best.pt").exists()
        assert (folder / "checkpoints/step_256.pt").exists()
        assert "side by side with 5 other jobs in one process" in (folder / "run.log").read_text()
        assert list(folder.glob("events.out.tfevents.*"))
    # The launcher is no part of a run: an ordinary sweep finds all jobs complete.
    again = command_line(*PPO, *jobs, "launcher=local")
    assert again.code == 0
    assert "sweep: 6 jobs, 0 to run" in again.out
    # On its own it rounds differently.
    assert rerun([str(folders[0]), "name=alone", "dry_run=true"]) == 0
    said = f"run again: {folders[0]}; what differs: it was trained side by side, which rounds differently\n"
    assert capfd.readouterr().out.startswith(said)


def test_a_stack_that_was_stopped_resumes_to_the_bits_of_one_that_was_not(
    command_line: CommandLine, users_package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBRL_EXP_ALLOW", users_package)
    marker = tmp_path / "came"
    stops = f"{{_target_: {users_package}.SignalsOnce, at: 20, marker: '{marker}', number: 15}}"
    jobs = ["seed=1,2", f"+agent.members.stops={stops}"]
    stopped = command_line(*PPO, *jobs, "name=stopped")
    assert stopped.code == 128 + 15, stopped.err
    folders = [tmp_path / f"outputs/multirun/stopped/seed={seed}" for seed in (1, 2)]
    assert [summary_of(folder)["status"] for folder in folders] == ["interrupted", "interrupted"]
    assert command_line(*PPO, *jobs, "name=stopped").code == 0
    assert command_line(*PPO, *jobs, "name=straight").code == 0
    for folder in folders:
        assert_same_run(folder, tmp_path / "outputs/multirun/straight" / folder.name)


@pytest.mark.parametrize("launcher", [["side_by_side"], ["joblib", "hydra.launcher.n_jobs=1"]], ids=lambda of: of[0])
def test_the_command_in_the_log_of_a_job_resumes_it(
    launcher: list[str], command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["seed=1,2", "total_steps=128", "eval.every=0", "pause_after=64", "name=s", f"launcher={launcher[0]}"]
    monkeypatch.setattr(sys, "argv", ["bbrl-exp", "run", *PPO, *words, *launcher[1:]])
    assert command_line(*sys.argv[2:]).code == 0
    folder = tmp_path / "outputs/multirun/s/seed=1"
    (line,) = (line for line in (folder / "run.log").read_text().splitlines() if line.startswith("to resume: "))
    assert line.endswith(
        " run env=cartpole batch_size=2 eval.episodes=1 eval.final_episodes=1 agent=ppo agent.steps_per_chunk=32 "
        "agent.learner.n_epochs=2 total_steps=128 eval.every=0 checkpoint.keep=1 seed=1 name=s "
        f"\"resume='{folder}'\""
    )
    again = shlex.split(line)
    again = again[again.index("run") + 1 :]
    assert "resumes after 64 environment steps" in command_line(*again).out
    assert (summary_of(folder)["status"], summary_of(folder)["env_steps"]) == ("completed", 128)
    # What was trained side by side for a part of its time stays so.
    assert summary_of(folder)["side_by_side_with"] == (1 if launcher == ["side_by_side"] else None)


def checked(*overrides: str) -> list[CheckedRun]:
    """Jobs of seeds 1 and 2."""
    with open_composer() as composer:
        return [check(composer.compose([*overrides, f"seed={seed}"])) for seed in (1, 2)]


def folders_in(place: Path) -> list[Path]:
    folders = [place / f"seed={seed}" for seed in (1, 2)]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


@pytest.mark.parametrize("agent", [PPO, [*DQN, "agent.steps_per_chunk=32"]], ids=["ppo", "dqn"])
def test_a_signal_between_two_jobs_stops_both_at_one_chunk_and_each_resumes_alone_to_the_same_bits(
    agent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = checked(*agent[2:], "total_steps=192", "eval.every=0")
    stopped, straight = folders_in(tmp_path / "stopped"), folders_in(tmp_path / "straight")
    assert [ending.code for ending in run_stack(runs, straight)] == [0, 0]
    after, seen = Session.after, []

    def after_and_signal(session: Session, chunk: Chunk) -> bool:
        seen.append(chunk.env_steps)
        if len(seen) == 2:  # the first job has gone on, the second is still at the first chunk
            os.kill(os.getpid(), signal.SIGTERM)
        return after(session, chunk)

    monkeypatch.setattr(Session, "after", after_and_signal)
    assert [ending.code for ending in run_stack(runs, stopped)] == [128 + 15] * 2
    assert [summary_of(folder)["env_steps"] for folder in stopped] == [128, 128]
    for run, folder, other in zip(runs, stopped, straight, strict=True):
        assert [ending.code for ending in run_stack([run], [folder])] == [0]
        assert (summary_of(folder)["side_by_side_with"], summary_of(other)["side_by_side_with"]) == (0, 1)
        assert "side by side with no other job in one process" in (folder / "run.log").read_text()
        assert_same_run(folder, other)


@pytest.mark.parametrize("launcher", ["side_by_side", "local"])
def test_a_job_that_cannot_write_in_its_folder_fails_alone(command_line: CommandLine, launcher: str) -> None:
    sweep = [*PPO, f"launcher={launcher}", "seed=1,2,3", "total_steps=64", "eval.every=0", "name=full"]
    assert command_line(*sweep).code == 0
    folder = Path("outputs/multirun/full")
    for job in ("seed=1", "seed=2", "seed=3"):
        shutil.rmtree(folder / job)
    (folder / "seed=1" / "run.log").mkdir(parents=True)
    ended = command_line(*sweep)
    assert ended.code == 1
    assert "failed: seed=1: cannot write" in ended.out + ended.err
    assert [summary_of(folder / job)["status"] for job in ("seed=2", "seed=3")] == ["completed"] * 2


def test_the_speed_of_a_job_leaves_out_the_evaluations_of_all_jobs_and_the_making_of_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments)

        return call

    monkeypatch.setattr("bbrl_exp.training.loop.time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr("bbrl_exp.runs.stack.Stack", taking(100.0, Stack))
    monkeypatch.setattr(Evaluations, "after_chunk", taking(10.0, Evaluations.after_chunk))
    monkeypatch.setattr(Session, "learned", taking(1.0, Session.learned))
    folders = folders_in(tmp_path)
    run_stack(checked(*PPO[2:], "total_steps=128", "eval.every=64"), folders)
    # The second of the two chunks of the first job ends after three of the four calls of `learned`.
    assert [summary_of(folder)["steps_per_second"] for folder in folders] == [128 / 3, 128 / 4]


def test_agents_that_cannot_be_closed_do_not_keep_their_jobs_from_completing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("cannot be closed")

    monkeypatch.setattr(PreparedRun, "__exit__", broken)
    folders = folders_in(tmp_path)
    assert [ending.code for ending in run_stack(checked(*PPO[2:], "total_steps=64", "eval.every=0"), folders)] == [0, 0]
    for folder in folders:
        assert summary_of(folder)["status"] == "completed"
        assert "ZeroDivisionError: cannot be closed" in (folder / "run.log").read_text()


def test_a_job_that_diverges_stops_alone(command_line: CommandLine, tmp_path: Path) -> None:
    settings = [*PPO, "seed=1,2", "agent.learner.anneal_learning_rate=false", "tracking.metrics_every=64"]
    rates = command_line(*settings, "agent.learner.learning_rate=1e-3,1e30", "name=three")
    assert rates.code == 1
    assert "side by side: 4 jobs in 1 stack\n" in rates.out
    sweep = tmp_path / "outputs/multirun/three"
    summaries = {path.name: summary_of(path) for path in sweep.iterdir() if path.is_dir()}
    assert {summary["side_by_side_with"] for summary in summaries.values() if summary["status"] == "completed"} == {1}
    assert {name: summary["status"] for name, summary in summaries.items()} == {
        f"agent.learner.learning_rate={rate},seed={seed}": status
        for rate, status in (("0.001", "completed"), ("1e+30", "diverged"))
        for seed in (1, 2)
    }
    assert command_line(*settings, "agent.learner.learning_rate=1e-3", "name=two").code == 0
    for seed in (1, 2):
        with_others = sweep / f"agent.learner.learning_rate=0.001,seed={seed}"
        assert_same_run(tmp_path / f"outputs/multirun/two/seed={seed}", with_others)


def test_a_job_whose_priorities_become_infinite_stops_alone(tmp_path: Path) -> None:
    settings = [*DQN[2:], "agent.learner.prioritised=true", "agent.learner.anneal_learning_rate=false", "eval.every=0"]
    settings += ["total_steps=96", "tracking.metrics_every=96"]
    runs = [checked(*settings, f"agent.learner.learning_rate={rate}")[index] for index, rate in enumerate((1e30, 1e-3))]
    folders = folders_in(tmp_path)
    run_stack(runs, folders)
    diverged, well = map(summary_of, folders)
    assert (diverged["status"], well["status"]) == ("diverged", "completed")
    assert "errors are NaN or infinite" in str(diverged["error"])


def test_a_job_whose_agent_fails_stops_alone(
    command_line: CommandLine, users_package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBRL_EXP_ALLOW", users_package)
    broken = f"{{_target_: {users_package}.BrokenOfSeed, at: 5, seed: '${{seed}}', broken: 2}}"
    ended = command_line(*PPO, "seed=1,2,3", f"+agent.members.broken={broken}", "name=s")
    assert ended.code == 1
    sweep = tmp_path / "outputs/multirun/s"
    statuses = [summary_of(sweep / f"seed={seed}")["status"] for seed in (1, 2, 3)]
    assert statuses == ["completed", "failed", "completed"]
    error = str(summary_of(sweep / "seed=2")["error"])
    assert error.startswith("ZeroDivisionError: the agent is broken (in BrokenOfSeed 'broken'")
    assert "ZeroDivisionError" in (sweep / "seed=2/run.log").read_text()


def test_what_cannot_be_stacked_runs_alone_with_the_reason(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line(
        *SIDE, "agent=a2c,pqn,random,reinforce", "seed=1,2", "total_steps=64", "eval.every=0", "name=s"
    )
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[1:4] == [
        "side by side: 4 jobs in 2 stacks of 2 jobs (they differ in agent)",
        "on its own: agent=random,seed=1 and 1 more: the agent learns nothing",
        "on its own: agent=reinforce,seed=1 and 1 more: Reinforce cannot be stacked, only PPO, A2C, DQN, PQN can",
    ]
    assert len(list((tmp_path / "outputs/multirun/s").glob("*/summary.json"))) == 8


def test_a_dry_run_says_which_jobs_share_a_process_and_why_others_do_not(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "measure", lambda *_: Estimate(steps_per_second=16.0, bytes_per_step=100.0))
    small = ("total_steps=64", "dry_run=true", "name=s")
    said = command_line(*SIDE, "agent=a2c,random", "seed=1,2", *small).out.splitlines()
    assert said[-6:-1] == [
        "4 jobs, 4 to run, 640 environment steps",
        "side by side: 2 jobs in 1 stack",
        "on its own: agent=random,seed=1 and 1 more: the agent learns nothing",
        "time: about 40 s in all, one after the other; the jobs of a stack share one process and take less; "
        "measured for 4 s per kind of job, evaluations left out",
        "disk: at most about 64 kB, checkpoints left out",
    ]
    alone = command_line(*SIDE, "agent=random", "seed=1,2", *small).out
    assert "\ntime: about 32 s in all, one after the other; measured for 4 s per kind of job" in alone
    assert not (tmp_path / "outputs").exists()


def test_a_bad_size_of_stacks_is_refused_in_one_line(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line(*PPO, "seed=1,2", "hydra.launcher.jobs_per_stack=1")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: key 'hydra.launcher.jobs_per_stack' = 1: must be an integer of at least 2\n"
    assert not (tmp_path / "outputs").exists()


def test_a_sweep_of_one_job_names_its_folder_by_the_seed(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("-m", "agent=random", "seed=1", "total_steps=64", "launcher=side_by_side", "name=s")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[:2] == [
        f"sweep: 1 job, 1 to run, in {tmp_path / 'outputs/multirun/s'}",
        "on its own: seed=1: the agent learns nothing",
    ]
    assert summary_of(tmp_path / "outputs/multirun/s/seed=1")["status"] == "completed"


def test_one_run_needs_no_stack(command_line: CommandLine) -> None:
    ended = command_line("launcher=side_by_side", "agent=ppo")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: key 'launcher' = 'side_by_side': a launcher needs a sweep, written with -m\n"
