"""The same sweep by every launcher, and one whose process is killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prepared
import psutil
import pytest

from bbrl_exp.commands.report import main as report
from bbrl_exp.records.claim import is_in_use

from .conftest import CommandLine
from .same_run import assert_same_run

# dqn begins to learn after 1000 steps
SWEEP = ["-m", "agent=dqn,ppo", "batch_size=8", "seed=1,2", "total_steps=1088", "checkpoint.every=640"]
SWEEP += ["eval.every=640", "eval.episodes=1", "eval.final_episodes=1", "tracking.metrics_every=64"]
LONG = ["-m", "name=s", "agent=ppo", "seed=1,2,3", "total_steps=2048", "agent.learner.n_epochs=2", "batch_size=2"]
LONG += ["agent.steps_per_chunk=32", "eval.every=0", "eval.final_episodes=1"]
OF_TIME = ("time", "second", "speed", "folder", "wall")
WAIT = 120.0


def table_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "sweep.json").read_text())["jobs"]
    return [row | {"steps_per_second": None} for row in rows]


def assert_same_sweep(one: Path, other: Path) -> None:
    assert table_of(one) == table_of(other)
    for row in table_of(one):
        assert row["status"] == "completed"
        assert_same_run(one / row["folder"], other / row["folder"])


def tables_of_report(sweep: Path, folder: Path) -> dict[str, list[dict[str, str]]]:
    """Name of each CSV file → its rows, without what measures time or says where a run lies."""
    assert report([str(sweep), "--out", str(folder)]) == 0
    tables = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if path.stem != "speed":
            tables[path.name] = [
                {name: value for name, value in row.items() if not any(word in name for word in OF_TIME)}
                for row in rows
            ]
    return tables


def processes_of_ray() -> set[int]:
    found = set()
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        words = f"{process.info['name']} {' '.join(process.info['cmdline'] or ())}"
        if any(word in words for word in ("raylet", "gcs_server", "ray::")):
            found.add(process.info["pid"])
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_results_do_not_depend_on_the_launcher(command_line: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs the extra ray")
    before = processes_of_ray()
    ray = subprocess.run(
        [sys.executable, *prepared.RUN, *SWEEP, "launcher=ray", "hydra.launcher.ray.init.num_cpus=2", "name=ray"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ray.returncode == 0, ray.stdout + ray.stderr
    assert ray.stderr == ""
    assert command_line(*SWEEP, "name=local").code == 0
    assert command_line(*SWEEP, "name=joblib", "launcher=joblib", "hydra.launcher.n_jobs=2").code == 0

    sweeps = tmp_path / "outputs" / "multirun"
    tables = tables_of_report(sweeps / "local", tmp_path / "report_of_local")
    assert len(tables["runs.csv"]) == 4
    for name in ("joblib", "ray"):
        assert_same_sweep(sweeps / "local", sweeps / name)
        assert tables_of_report(sweeps / name, tmp_path / f"report_of_{name}") == tables
    wait_until(lambda: processes_of_ray() <= before)


def test_jobs_of_a_sweep_that_was_killed_save_and_end_and_another_launcher_goes_on(
    command_line: CommandLine, users_package: str, tmp_path: Path
) -> None:
    jobs = [*LONG, f"+env.wrappers.slow={{_target_: {users_package}.SlowWhileHeld}}"]
    held = tmp_path / "held"
    held.touch()
    command = [*prepared.RUN, *jobs, "launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = tmp_path / "outputs" / "multirun" / "s"
    folders = [sweep / f"seed={seed}" for seed in (1, 2)]
    process = prepared.start(command, tmp_path)
    try:
        wait_until(lambda: all(list((folder / "checkpoints").glob("step_*.pt")) for folder in folders))
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send(signal.SIGKILL)
        process.wait()
    killed = time.monotonic()
    wait_until(lambda: not any(is_in_use(folder) for folder in folders))
    wait_until(lambda: not any(is_alive(child) for child in children))
    assert time.monotonic() - killed < 30
    statuses = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    assert {(found["status"], found["error"]) for found in statuses} == {("interrupted", "stopped by SIGTERM")}
    assert not (sweep / "seed=3").exists()
    held.unlink()

    assert command_line(*jobs).code == 0
    os.rename(sweep, tmp_path / "killed")
    assert command_line(*jobs).code == 0
    assert_same_sweep(sweep, tmp_path / "killed")


def has_stepped(folder: Path) -> bool:
    """Whether a run has recorded anything: one that is stopped before its first chunk has nothing to save."""
    metrics = folder / "metrics.csv"
    return metrics.exists() and len(metrics.read_text().splitlines()) > 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_jobs_side_by_side_save_when_their_sweep_is_asked_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    command = [*prepared.RUN, *LONG, "total_steps=100_000_000", "launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = tmp_path / "outputs" / "multirun" / "s"
    folders = [sweep / f"seed={seed}" for seed in (1, 2)]
    process = prepared.start(command, tmp_path, own_session=True)
    try:
        wait_until(lambda: all(has_stepped(folder) for folder in folders))
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, number)  # a terminal's Ctrl-C goes to the whole group
        assert process.wait() == 128 + number
    finally:
        if not process.is_over():
            process.send(signal.SIGKILL)
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        assert (summary["status"], summary["error"]) == ("interrupted", "stopped by SIGTERM")
        assert (folder / "checkpoints" / f"step_{summary['env_steps']}.pt").exists()
    rows = table_of(sweep)
    assert [row["error"] for row in rows] == ["stopped by SIGTERM", "stopped by SIGTERM", "not started"]
    assert "not started" in process.stdout
    assert not list(sweep.glob(".stop_*"))
    wait_until(lambda: not any(is_alive(child) for child in children))


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
