"""Processes that are killed or stopped at random moments, go on, and end as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .prepared_interpreter import SCRIPT
from .same_run import assert_same_run, summary_of

PPO = [
    "agent=ppo",
    "agent.learner.n_epochs=1",
    "batch_size=2",
    "agent.steps_per_chunk=32",
    "eval.every=1000",
    "eval.episodes=2",
    "eval.final_episodes=2",
    "tracking.metrics_every=500",
    "checkpoint.every=256",
]
LONG_PPO = [*PPO, "total_steps=20480"]
SAC = [
    "agent=sac",
    "env=pendulum",
    "batch_size=2",
    "agent.members.policy.hidden_sizes=[32]",
    "agent.learner.critic.hidden_sizes=[32]",
    "agent.learner.learning_starts=300",
    "agent.learner.batch_size=64",
    "agent.learner.updates_per_step=0.5",
    "total_steps=4096",
    "eval.every=1000",
    "eval.episodes=1",
    "eval.final_episodes=1",
    "tracking.metrics_every=500",
    "checkpoint.every=256",
]
WAIT = 120.0


class Forked:
    """A process forked from the prepared interpreter."""

    def __init__(self, interpreter: "Interpreter", pid: int, output: Path) -> None:
        self._interpreter, self.pid, self._output = interpreter, pid, output

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        deadline = time.monotonic() + WAIT
        while not self.is_over():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                pytest.fail(f"the run hangs: {self.output}")
            time.sleep(0.005)
        return self._interpreter.ask(self.pid)

    def is_over(self) -> bool:
        return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")


class Interpreter:
    """One that has imported everything, from which runs are forked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("prepared_interpreter.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, request: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, cwd: Path, *arguments: str) -> Forked:
        output = cwd / "output.txt"
        output.unlink(missing_ok=True)
        return Forked(self, self.ask({"cwd": str(cwd), "output": str(output), "arguments": arguments}), output)

    def run(self, cwd: Path, *arguments: str) -> str:
        """Runs to the end, which must be a good one; gives what was said."""
        started = self.start(cwd, *arguments)
        code = started.wait()
        assert code == 0, started.output
        return started.output

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Interpreter]:
    opened = Interpreter()
    yield opened
    opened.close()


def newest_step(folder: Path) -> int:
    return max((int(path.stem[5:]) for path in (folder / "checkpoints").glob("step_*.pt")), default=0)


def wait_for_progress(folder: Path, process: Forked | subprocess.Popen[bytes]) -> None:
    """Waits until there is a newer checkpoint than now."""
    before, deadline = newest_step(folder), time.monotonic() + WAIT
    while newest_step(folder) <= before:
        is_over = process.is_over() if isinstance(process, Forked) else process.poll() is not None
        assert not is_over, "the run has ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def start_script(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def files_of(folder: Path) -> set[str]:
    """The names of the files in a run's folder, those of event files without their time."""
    return {path.name.partition(".tfevents")[0] for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def straight_ppo(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("straight_ppo")
    interpreter.run(here, *LONG_PPO, "name=straight")
    return here / "outputs" / "straight"


def test_a_run_that_was_killed_twenty_times_ends_like_one_that_was_not(
    interpreter: Interpreter, straight_ppo: Path, tmp_path: Path
) -> None:
    chance = random.Random(4)
    folder = tmp_path / "outputs" / "killed"
    for kill in range(20):
        process = interpreter.start(tmp_path, *LONG_PPO, "name=killed")
        if kill % 5 == 0:
            time.sleep(chance.uniform(0, 0.8))  # perhaps while it starts, or reads its checkpoint
        else:
            wait_for_progress(folder, process)
            time.sleep(chance.uniform(0, 0.06))
        process.send(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert summary_of(folder)["status"] == "running"
    assert "resumes after" in interpreter.run(tmp_path, *LONG_PPO, "name=killed")
    assert_same_run(straight_ppo, folder)
    assert files_of(folder) == files_of(straight_ppo)


def test_a_run_that_each_signal_has_stopped_ends_like_one_that_was_not(
    interpreter: Interpreter, straight_ppo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "outputs" / "stopped"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        process = interpreter.start(tmp_path, *LONG_PPO, "name=stopped")
        wait_for_progress(folder, process)
        before = newest_step(folder)
        process.send(number)
        assert process.wait() == 128 + number
        summary = summary_of(folder)
        assert (summary["status"], summary["error"]) == ("interrupted", f"stopped by {number.name}")
        assert before <= newest_step(folder) == summary["env_steps"] < 20480
    interpreter.run(tmp_path, *LONG_PPO, "name=stopped")
    assert_same_run(straight_ppo, folder)


def test_a_run_goes_on_elsewhere_and_with_other_workers(interpreter: Interpreter, tmp_path: Path) -> None:
    interpreter.run(tmp_path, *SAC, "name=straight")
    folder, deep = tmp_path / "elsewhere", tmp_path / "a" / "much" / "deeper one"
    deep.mkdir(parents=True)
    surroundings = [
        (tmp_path, 1, {"TZ": "Asia/Kolkata", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "4"}),
        (deep, 2, {"TZ": "America/St_Johns", "PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "1"}),
        (deep.parent, 0, {"TZ": "UTC", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2"}),
    ]
    for cwd, workers, environment in surroundings:
        process = start_script(cwd, *SAC, f"env.workers={workers}", f"hydra.run.dir={folder}", **environment)
        wait_for_progress(folder, process)
        if workers > 0:
            children = psutil.Process(process.pid).children()
            assert len(children) == workers
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert psutil.wait_procs(children, timeout=10)[1] == []
    assert process.wait(WAIT) == 0
    assert_same_run(tmp_path / "outputs" / "straight", folder)


def test_a_sweep_that_a_script_has_put_into_the_background_stops_as_a_whole(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "-m", *PPO, "total_steps=5120", "name=s", "seed=1,2"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    sweep = tmp_path / "outputs" / "multirun" / "s"
    wait_for_progress(sweep / "seed=1", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT) == 128 + signal.SIGINT
    assert not (sweep / "seed=2").exists()


def test_a_sweep_that_was_stopped_and_killed_goes_on_and_its_jobs_end_as_each_alone(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    short = [*PPO, "total_steps=5120"]
    sweep, folder = ["-m", *short, "name=s", "seed=1,2"], tmp_path / "outputs" / "multirun" / "s"
    for job, number in (("seed=1", signal.SIGINT), ("seed=2", signal.SIGKILL)):
        process = interpreter.start(tmp_path, *sweep)
        wait_for_progress(folder / job, process)
        process.send(number)
        assert process.wait() == (-number if number == signal.SIGKILL else 128 + number), process.output
    assert "2 jobs, 1 to run" in interpreter.run(tmp_path, *sweep)
    for seed in (1, 2):
        interpreter.run(tmp_path, *short, f"name=alone{seed}", f"seed={seed}")
        assert_same_run(tmp_path / "outputs" / f"alone{seed}", folder / f"seed={seed}")
