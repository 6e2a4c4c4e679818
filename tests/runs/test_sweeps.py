"""Sweeps: their folders, their table, what happens when jobs fail."""

import csv
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import prepared
import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.job_host import JobHost
from bbrl_exp.runs.run import run

from .conftest import CommandLine

SHORT = ["total_steps=256", "agent.steps_per_chunk=32", "tracking=none"]


def sweep_folder(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "outputs" / "multirun").iterdir()
    return folder


def table_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "sweep.json").read_text())["jobs"]
    with (folder / "sweep.csv").open(newline="") as file:
        assert [row["folder"] for row in csv.DictReader(file)] == [row["folder"] for row in rows]
    return rows


def test_a_sweep_makes_a_folder_a_job_and_a_table(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("-m", "agent=random,mlp", "batch_size=1,8", *SHORT)
    assert ended.code == 0
    rows = table_of(sweep_folder(tmp_path))
    assert [row["folder"] for row in rows] == [
        "agent=random,batch_size=1",
        "agent=random,batch_size=8",
        "agent=mlp,batch_size=1",
        "agent=mlp,batch_size=8",
    ]
    assert {row["status"] for row in rows} == {"completed"}
    for row in rows:
        assert (sweep_folder(tmp_path) / row["folder"] / "summary.json").exists()
        assert row["folder"] in ended.out


@pytest.mark.usefixtures("users_package")
@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_failing_jobs_are_listed_and_the_others_finish(
    launcher: str, command_line: CommandLine, tmp_path: Path
) -> None:
    ended = command_line(
        "-m",
        f"launcher={launcher}",
        "+agent.members.broken={_target_: users_own.Broken, at: 7}",
        "agent.members.broken.at=7,100000,x",
        "agent=random,randm",
        *SHORT,
    )
    assert ended.code == 1
    rows = {row["folder"]: row for row in table_of(sweep_folder(tmp_path))}
    assert len(rows) == 6
    assert [name for name, row in rows.items() if row["status"] == "completed"] == [
        "agent.members.broken.at=100000,agent=random"
    ]
    assert "the agent is broken" in rows["agent.members.broken.at=7,agent=random"]["error"]
    assert "must be an integer" in rows["agent.members.broken.at=x,agent=random"]["error"]
    assert "did you mean 'random'" in rows["agent.members.broken.at=7,agent=randm"]["error"]
    for row in rows.values():
        if row["status"] == "failed":
            assert row["error"] in ended.out
            folder = sweep_folder(tmp_path) / row["folder"]
            assert json.loads((folder / "summary.json").read_text())["error"] == row["error"]
            assert row["error"].split(": ")[-1] in (folder / "run.log").read_text()


def test_a_named_sweep_does_not_run_complete_jobs_again(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line("-m", "name=s", "seed=1,2", *SHORT).code == 0
    first = (tmp_path / "outputs" / "multirun" / "s" / "seed=1" / "summary.json").stat().st_mtime_ns
    ended = command_line("-m", "name=s", "seed=1,2,3", *SHORT)
    assert ended.code == 0
    assert "3 jobs, 1 to run" in ended.out
    assert (tmp_path / "outputs" / "multirun" / "s" / "seed=1" / "summary.json").stat().st_mtime_ns == first
    assert len(table_of(tmp_path / "outputs" / "multirun" / "s")) == 3


def test_a_job_that_could_not_start_runs_once_its_cause_is_mended(command_line: CommandLine, tmp_path: Path) -> None:
    short = ["agent=mlp", *SHORT]
    assert command_line("name=there", *short).code == 0
    sweep = ["-m", "name=s", "init_from=outputs/there,outputs/later", *short]
    assert command_line(*sweep).code == 1
    folder = tmp_path / "outputs" / "multirun" / "s"
    (name,) = (row["folder"] for row in table_of(folder) if row["status"] == "failed")
    failed = json.loads((folder / name / "summary.json").read_text())
    assert "outputs/later" in failed["error"]
    assert command_line("name=later", *short).code == 0
    assert command_line(*sweep).code == 0
    mended = json.loads((folder / name / "summary.json").read_text())
    assert (mended["status"], mended["config_hash"]) == ("completed", failed["config_hash"])


@pytest.mark.usefixtures("users_package")
@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_whatever_happens_to_a_job_costs_no_other(launcher: str, command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line(
        "-m",
        f"launcher={launcher}",
        "+agent.members.dies={_target_: users_own.Dies, how: nothing}",
        "agent.members.dies.how=exit,exception,sys_exit,kill,crash,memory,nothing",
        *SHORT,
    )
    assert ended.code == 1
    rows = {row["folder"].rpartition("=")[2]: row for row in table_of(sweep_folder(tmp_path))}
    assert [name for name, row in rows.items() if row["status"] == "completed"] == ["nothing"]
    reasons = {name: row["error"] for name, row in rows.items() if row["status"] == "failed"}
    assert {name: re.sub(r"users_own\.py:\d+", "users_own.py:…", reason) for name, reason in reasons.items()} == {
        "exit": "its process ended with exit code 7",
        "exception": "ZeroDivisionError: the agent is broken (in Dies 'dies', users_own.py:…)",
        "sys_exit": "SystemExit: 5 (in Dies 'dies', users_own.py:…)",
        "kill": "its process was killed by SIGKILL, perhaps for lack of memory",
        "crash": "its process was killed by SIGSEGV",
        "memory": "MemoryError (in Dies 'dies', users_own.py:…)",
    }
    for name, reason in reasons.items():
        assert reason in ended.out
        folder = sweep_folder(tmp_path) / rows[name]["folder"]
        assert json.loads((folder / "summary.json").read_text())["error"] == reason
    crashed = sweep_folder(tmp_path) / rows["crash"]["folder"] / "run.log"
    assert "Segmentation fault" in crashed.read_text()


@pytest.mark.usefixtures("users_package")
@pytest.mark.filterwarnings("default:CartPole-v1. close.. raised:UserWarning")
def test_a_job_whose_environment_or_agent_cannot_be_made_fails_alone(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line(
        "-m",
        "+env.wrappers.opened={_target_: users_own.Opened, how: well}",
        "+agent.members.made={_target_: users_own.Made, how: well}",
        "env.wrappers.opened.how=close,exit,make,reset",
        "agent.members.made.how=well,exit,exception",
        *SHORT,
    )
    assert ended.code == 1
    rows = {row["folder"]: row for row in table_of(sweep_folder(tmp_path))}
    (good,) = (row for row in rows.values() if row["status"] == "completed")
    assert "how=close" in good["folder"]
    assert "made.how=well" in good["folder"]
    for name, row in rows.items():
        if row is not good:
            assert row["error"] in ended.out
            assert re.search("SystemExit|the agent is broken|the wrapper is broken", row["error"]), name
            assert "\n" not in row["error"]


@pytest.mark.parametrize(
    ("contents", "typed"),
    [
        ("hydra: {sweeper: {params: {seed: '1,2', batch_size: 2}}}", []),
        ("hydra: {sweeper: {params: {seed: '1,2'}}}", ["-m", "batch_size=2"]),
        ("hydra: {mode: MULTIRUN}", ["seed=1,2", "batch_size=2"]),
    ],
)
def test_a_sweep_that_an_experiment_describes_runs_its_jobs(
    contents: str, typed: list[str], command_line: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{contents}\n")
    ended = command_line("--config-dir", "own", "experiment=mine", "name=s", *typed, *SHORT)
    assert ended.code == 0, ended.err
    folders = [tmp_path / "outputs" / "multirun" / "s" / f"seed={seed}" for seed in (1, 2)]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    assert [(each["seed"], each["batch_size"], each["status"]) for each in summaries] == [
        (1, 2, "completed"),
        (2, 2, "completed"),
    ]
    for overrides in ([], ["hydra.mode=MULTIRUN"]):
        with pytest.raises(ConfigurationError, match="describes a sweep"):
            run(["experiment=mine", *overrides], extra_dir=tmp_path / "own")


def test_several_values_need_m_where_the_configuration_describes_no_sweep(
    command_line: CommandLine, tmp_path: Path
) -> None:
    ended = command_line("seed=1,2")
    assert (ended.code, ended.err) == (2, "error: key 'seed' = 1,2: several values need a sweep, written with -m\n")
    assert command_line("hydra.mode=MULTIRUN", "seed=1,2", "dry_run=true", *SHORT).code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("users_package")
@pytest.mark.parametrize("launcher", [[], ["-m"], ["-m", "launcher=joblib"]])
def test_the_current_folder_of_a_run_is_its_own_if_asked_for(
    launcher: list[str], command_line: CommandLine, tmp_path: Path
) -> None:
    made = "+agent.members.made={_target_: users_own.Made}"
    assert command_line(*launcher, "name=s", "hydra.job.chdir=true", made, "seed=1", *SHORT).code == 0
    (found,) = (tmp_path / "outputs").rglob("here")
    assert (found.parent / "summary.json").exists()


@pytest.mark.usefixtures("users_package")
def test_a_signal_to_one_job_stops_that_job_alone(command_line: CommandLine, tmp_path: Path) -> None:
    stops = "+agent.members.stops={_target_: users_own.Stops, at: 100000}"
    ended = command_line("-m", stops, "agent.members.stops.at=20,100000", *SHORT, "total_steps=2560")
    assert ended.code == 1
    assert [row["error"] for row in table_of(sweep_folder(tmp_path))] == ["stopped by SIGTERM", None]


@pytest.mark.usefixtures("users_package")
def test_a_signal_to_the_sweep_in_the_last_chunk_of_a_job_ends_the_sweep(
    command_line: CommandLine, tmp_path: Path
) -> None:
    stops = "+agent.members.stops={_target_: users_own.StopsSweep, at: 20}"
    ended = command_line("-m", stops, "seed=1,2", "batch_size=8", "total_steps=256", "agent.steps_per_chunk=32")
    assert ended.code == 128 + signal.SIGTERM
    assert [row["status"] for row in table_of(sweep_folder(tmp_path))] == ["completed", "interrupted"]


def test_two_sweeps_of_the_same_second_have_folders_of_their_own(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bbrl_exp.config.compose.run_folder_name", lambda name: "now")
    for _ in range(2):
        assert command_line("-m", "seed=1", *SHORT).code == 0
    assert {path.name for path in (tmp_path / "outputs" / "multirun").iterdir()} == {"now", "now_2"}


def test_a_signal_ends_the_sweep_and_the_table_tells_what_was_not_begun(tmp_path: Path) -> None:
    jobs = ["-m", "name=s", "seed=1,2", "total_steps=100_000_000", "tracking=none"]
    process = prepared.start([*prepared.RUN, *jobs], tmp_path)
    try:
        summary = tmp_path / "outputs" / "multirun" / "s" / "seed=1" / "summary.json"
        deadline = time.monotonic() + 120
        while not summary.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(0.5)
    finally:
        process.send(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert "interrupted" in process.stdout
    assert [row["error"] for row in table_of(tmp_path / "outputs" / "multirun" / "s")] == [
        "stopped by SIGTERM",
        "not started",
    ]


def test_a_signal_before_a_job_has_begun_ends_the_sweep(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job = JobHost.run

    def signalled(host: JobHost, *arguments: Any, **options: Any) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return run_job(host, *arguments, **options)

    monkeypatch.setattr(JobHost, "run", signalled)
    assert command_line("-m", "seed=1,2", *SHORT, "total_steps=1_000_000").code == 128 + signal.SIGTERM
    assert {row["status"] for row in table_of(sweep_folder(tmp_path))} == {"interrupted"}


def test_a_sweep_that_varies_more_than_it_did_keeps_the_runs_it_has(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line("-m", "name=s", "agent=random", "seed=1,2", *SHORT).code == 0
    folder = tmp_path / "outputs" / "multirun" / "s"
    before = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")}
    ended = command_line("-m", "name=s", "agent=random,mlp", "seed=1,2", *SHORT)
    assert ended.code == 0
    assert "4 jobs, 2 to run" in ended.out
    rows = table_of(folder)
    assert [(row["overrides"], row["folder"]) for row in rows] == [
        ("agent=random seed=1", "seed=1"),
        ("agent=random seed=2", "seed=2"),
        ("agent=mlp seed=1", "agent=mlp,seed=1"),
        ("agent=mlp seed=2", "agent=mlp,seed=2"),
    ]
    assert {name: (folder / name / "summary.json").stat().st_mtime_ns for name in before} == before


def test_a_sweep_of_other_jobs_in_the_same_folder_leaves_those_there(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line("-m", "name=s", "agent=random", "seed=1,2", *SHORT).code == 0
    assert command_line("-m", "name=s", "agent=mlp", "seed=1,2", *SHORT).code == 0
    rows = table_of(tmp_path / "outputs" / "multirun" / "s")
    assert len(rows) == 4
    assert [row["overrides"] for row in rows] == ["seed=1", "seed=2", "seed=1", "seed=2"]
    assert {row["status"] for row in rows} == {"completed"}
    assert [row["folder"] for row in rows][2:] == ["seed=1", "seed=2"]
    assert "agent=mlp" in rows[0]["folder"]


def test_a_dry_run_shows_the_jobs_and_makes_nothing(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("-m", "dry_run=true", "agent=random,randm", "seed=1,2", "total_steps=2560")
    assert ended.code == 1  # as the sweep itself: some of its jobs cannot run
    assert not (tmp_path / "outputs").exists()
    assert "4 jobs, 2 to run, 6,144 environment steps" in ended.out
    assert ended.out.count("did you mean 'random'") == 1
    assert "cannot run: agent=randm seed=1 and 1 more: key 'agent' = 'randm'" in ended.out
    assert "time: about" in ended.out


def test_a_dry_run_of_jobs_that_can_all_run_exits_with_0(command_line: CommandLine) -> None:
    stack = "env.wrappers.stack=null,{_target_: gymnasium.wrappers.FrameStackObservation, stack_size: 2}"
    ended = command_line("-m", "dry_run=true", *SHORT, stack)
    assert ended.code == 0
    assert "2 jobs, 2 to run" in ended.out


def test_a_dry_run_of_one_run_shows_its_plan_and_makes_nothing(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("dry_run=true", "total_steps=2048")
    assert ended.code == 0
    assert "environment steps  2,048" in ended.out
    assert "about" in ended.out
    assert not (tmp_path / "outputs").exists()


def test_a_plan_says_that_what_is_due_within_a_chunk_waits_for_its_end(command_line: CommandLine) -> None:
    options = ("agent=ppo", "dry_run=true", "total_steps=4096", "checkpoint.every=2048")
    ended = command_line(*options)
    assert "checkpoints        every 2,048 steps" in ended.out
    assert "evaluation         after every chunk, of 1,024 steps, 10 episodes; at the end 20" in ended.out


def test_the_table_of_variables_has_the_learner_among_the_readers(command_line: CommandLine) -> None:
    ended = command_line("agent=ppo", "dry_run=true", "total_steps=1024")
    readers = {line.split()[0]: line.split()[-1] for line in ended.out.splitlines() if line.startswith("  env/")}
    assert (readers["env/reward"], readers["env/timestep"]) == ("PPO", "-")


def test_a_sweep_cannot_resume_the_folder_of_a_run(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line("name=run", *SHORT).code == 0
    ended = command_line("-m", "seed=1,2", "resume=outputs/run", *SHORT)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "'resume' = 'outputs/run': must be auto or never in a sweep" in ended.err
    assert not (tmp_path / "outputs" / "multirun").exists()
