"""Jobs of a sweep under submitit: what is submitted to Slurm, and what signals of a scheduler do to a job."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prepared
import psutil
import pytest

from . import fake_slurm
from .conftest import CommandLine
from .same_run import assert_same_run

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra slurm")
from submitit import LocalJob
from submitit.core.utils import DelayedSubmission

SHORT = ["agent=ppo", "batch_size=2", "agent.steps_per_chunk=32", "agent.learner.n_epochs=1", "total_steps=512"]
SHORT += ["eval.every=256", "eval.episodes=1", "eval.final_episodes=1"]
SIGNALLED = "+agent.members.signals={_target_: users_own.SignalsOnce, at: 20, marker: marker, number: %d}"
SUBMITTED = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=240"]
WAIT = 90.0


def table_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "sweep.json").read_text())["jobs"]
    return rows


def job_of(sweep: Path) -> Path:
    """The folder of the one job."""
    (folder,) = (row["folder"] for row in table_of(sweep))
    return sweep / folder


def test_a_sweep_is_one_array_of_slurm_and_ends_as_one_on_this_machine(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm.install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{tmp_path / 'slurm'}{os.pathsep}{os.environ['PATH']}")
    sweep = ["-m", "seed=1,2", *SHORT]
    slurm = ["launcher=slurm", "hydra.launcher.partition=short", "hydra.launcher.mem_gb=3", "name=slurm"]
    ended = command_line(*sweep, *slurm)
    assert ended.code == 0, ended.out
    assert command_line(*sweep, "name=local").code == 0

    folders = {name: tmp_path / "outputs" / "multirun" / name for name in ("slurm", "local")}
    tables = {name: table_of(folder) for name, folder in folders.items()}
    for here, there in zip(tables["local"], tables["slurm"], strict=True):
        assert here | {"steps_per_second": None} == there | {"steps_per_second": None}
        assert_same_run(folders["local"] / here["folder"], folders["slurm"] / there["folder"])

    (submission,) = (folders["slurm"] / ".submitit").rglob("*_submission.sh")
    text = submission.read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", text, re.MULTILINE))
    places = {options.pop("output"), options.pop("error")}
    assert options == {
        "array": "0-1%2",
        "cpus-per-task": "1",
        "job-name": "bbrl_exp",
        "mem": "3GB",
        "nodes": "1",
        "ntasks-per-node": "1",
        "open-mode": "append",
        "partition": "short",
        "signal": "USR2@120",
        "time": "240",
        "wckey": "submitit",
    }
    assert all(place.startswith(str(folders["slurm"] / ".submitit")) for place in places)
    assert "srun --unbuffered" in text


def test_without_slurm_nothing_is_made(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = command_line("-m", "launcher=slurm", "seed=1,2")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "sbatch and srun not found" in ended.err
    assert not (tmp_path / "outputs").exists()


def straight(folder: Path, number: int) -> Path:
    """The folder of a run that no signal comes to, to compare others with."""
    (folder / "marker").touch()
    words = [*prepared.RUN, SIGNALLED % number, *SHORT, f"hydra.run.dir={folder / 'straight'}"]
    process = prepared.run(words, folder)
    assert process.wait() == 0, process.stderr
    return folder / "straight"


@pytest.mark.usefixtures("users_package")
def test_a_job_that_slurm_preempts_saves_queues_again_and_ends_like_one_that_was_left_alone(
    command_line: CommandLine, tmp_path: Path
) -> None:
    ended = command_line("-m", "name=s", SIGNALLED % signal.SIGUSR2, *SHORT, *SUBMITTED)
    assert ended.code == 0, ended.out
    sweep = tmp_path / "outputs" / "multirun" / "s"
    assert (tmp_path / "marker").exists()
    assert_same_run(straight(tmp_path, signal.SIGUSR2), job_of(sweep))
    log = (job_of(sweep) / "run.log").read_text()
    assert "stopped by SIGUSR2" in log
    assert "resumes after" in log
    (said,) = (sweep / ".submitit").rglob("*_log.out")
    assert said.read_text().count("Starting with") == 2


@pytest.mark.usefixtures("users_package")
def test_a_job_that_is_to_be_killed_saves_and_waits_and_the_same_command_goes_on(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalJob, "_results_timeout_s", 0)  # submitit waits for a slow disk
    sweep = tmp_path / "outputs" / "multirun" / "s"
    seen: list[str] = []

    def kill_what_waits() -> None:
        wait_until(lambda: any("interrupted" in path.read_text() for path in sweep.glob("*/summary.json")))
        (submitted,) = (
            process
            for process in psutil.Process().children(recursive=True)
            if process.cmdline()[-2:-1] == ["submitit.core._submit"]
        )
        time.sleep(0.5)
        seen.append(submitted.status())
        submitted.kill()

    killer = threading.Thread(target=kill_what_waits)
    killer.start()
    ended = command_line("-m", "name=s", SIGNALLED % signal.SIGTERM, *SHORT, *SUBMITTED)
    killer.join()
    assert (ended.code, seen) == (1, [psutil.STATUS_SLEEPING])
    assert [(row["status"], row["error"]) for row in table_of(sweep)] == [("interrupted", "stopped by SIGTERM")]
    assert command_line("-m", "name=s", SIGNALLED % signal.SIGTERM, *SHORT).code == 0
    assert_same_run(straight(tmp_path, signal.SIGTERM), job_of(sweep))


@pytest.mark.usefixtures("users_package")
def test_a_job_that_has_queued_again_too_often_is_listed_with_that_reason(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_timeout = DelayedSubmission.set_timeout
    monkeypatch.setattr(DelayedSubmission, "set_timeout", lambda own, minutes, _: set_timeout(own, minutes, 0))
    # Submitit takes a job for out of time that has run for more than its time less ten minutes.
    signalled = [SIGNALLED % signal.SIGUSR2, *SHORT, *SUBMITTED, "hydra.launcher.timeout_min=5"]
    ended = command_line("-m", "name=s", *signalled)
    assert ended.code == 1
    ((status, error),) = [(row["status"], row["error"]) for row in table_of(tmp_path / "outputs" / "multirun" / "s")]
    assert status == "failed"
    assert "timed-out too many times" in error


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
