"""Sweeps: their folders, their table, what happens when jobs fail."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from .conftest import CommandLine

SCRIPT = Path(__file__).parents[2] / "scripts" / "run.py"
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
    sweep = ["-m", "name=s", "env=gym", "env.id=CartPole-v1,UsersLater-v0", *SHORT]
    assert command_line(*sweep).code == 1
    folder = tmp_path / "outputs" / "multirun" / "s"
    failed = json.loads((folder / "env.id=UsersLater-v0" / "summary.json").read_text())
    assert failed["status"] == "failed"
    gymnasium.register("UsersLater-v0", "gymnasium.envs.classic_control:CartPoleEnv")
    try:
        assert command_line(*sweep).code == 0
    finally:
        del gymnasium.registry["UsersLater-v0"]
    mended = json.loads((folder / "env.id=UsersLater-v0" / "summary.json").read_text())
    assert (mended["status"], mended["config_hash"]) == ("completed", failed["config_hash"])


@pytest.mark.usefixtures("users_package")
def test_a_signal_in_the_last_chunk_of_a_job_ends_the_sweep(command_line: CommandLine, tmp_path: Path) -> None:
    node = "+agent.members.stops={_target_: users_own.Stops, at: 20}"
    ended = command_line("-m", node, "seed=1,2", "batch_size=8", "total_steps=256", "agent.steps_per_chunk=32")
    assert ended.code == 128 + signal.SIGTERM
    assert [row["status"] for row in table_of(sweep_folder(tmp_path))] == ["completed", "interrupted"]


def test_two_sweeps_of_the_same_second_have_folders_of_their_own(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bbrl_exp.app.compose.run_folder_name", lambda name: "now")
    for _ in range(2):
        assert command_line("-m", "seed=1", *SHORT).code == 0
    assert {path.name for path in (tmp_path / "outputs" / "multirun").iterdir()} == {"now", "now_2"}


def test_a_signal_ends_the_sweep_and_the_table_tells_what_was_not_begun(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "-m", "name=s", "seed=1,2", "total_steps=100_000_000", "tracking=none"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        summary = tmp_path / "outputs" / "multirun" / "s" / "seed=1" / "summary.json"
        deadline = time.monotonic() + 30
        while not summary.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert "interrupted" in out
    assert [row["error"] for row in table_of(tmp_path / "outputs" / "multirun" / "s")] == [
        "stopped by SIGTERM",
        "not begun",
    ]


def test_a_signal_before_a_job_has_begun_ends_the_sweep(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bbrl_exp.app.sweep.standing", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert command_line("-m", "seed=1,2", *SHORT).code == 128 + signal.SIGTERM
    assert [row["error"] for row in table_of(sweep_folder(tmp_path))] == ["not begun", "not begun"]


def test_a_sweep_cannot_resume_the_folder_of_a_run(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line("name=run", *SHORT).code == 0
    ended = command_line("-m", "seed=1,2", "resume=outputs/run", *SHORT)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "'resume' = 'outputs/run': must be auto or never in a sweep" in ended.err
    assert not (tmp_path / "outputs" / "multirun").exists()
