"""Processes that are killed or stopped at random moments, go on, and end as one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import prepared
import psutil
import pytest

from bbrl_exp.records.claim import is_in_use

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
HELD = "+env.wrappers.held={_target_: held.SlowWhileHeld, seed: ${seed}}"
LONG_PPO = [*PPO, HELD, "total_steps=10240"]
SAC = [
    "agent=sac",
    "env=pendulum",
    HELD,
    "batch_size=2",
    "agent.members.policy.hidden_sizes=[32]",
    "agent.learner.critic.hidden_sizes=[32]",
    "agent.learner.learning_starts=300",
    "agent.learner.batch_size=64",
    "agent.learner.updates_per_step=0.5",
    "total_steps=2048",
    "eval.every=1000",
    "eval.episodes=1",
    "eval.final_episodes=1",
    "tracking.metrics_every=500",
    "checkpoint.every=256",
]
# Three checkpoints come at full speed, the others slowly until nobody holds the run any more.
WRAPPER = """
import os
import time

import gymnasium


class SlowWhileHeld(gymnasium.Wrapper):
    def __init__(self, env, seed):
        super().__init__(env)
        self.file, self.n_steps = os.path.join(os.environ.get("HELD", "held"), str(seed)), 0

    def step(self, action):
        self.n_steps += 1
        if self.n_steps > 384 and os.path.exists(self.file):
            time.sleep(0.005)
        return self.env.step(action)
"""
VARIABLES: dict[str, str] = {}
WAIT = 120.0


def newest_step(folder: Path) -> int:
    return max((int(path.stem[5:]) for path in (folder / "checkpoints").glob("step_*.pt")), default=0)


def wait_for_progress(folder: Path, process: prepared.Process | subprocess.Popen[bytes]) -> None:
    """Waits until there is a newer checkpoint than now."""
    before, deadline = newest_step(folder), time.monotonic() + WAIT
    while newest_step(folder) <= before:
        is_over = process.is_over() if isinstance(process, prepared.Process) else process.poll() is not None
        assert not is_over, "the run has ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def start_interpreter(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *prepared.RUN, *arguments],
        cwd=cwd,
        env={**VARIABLES, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def files_of(folder: Path) -> set[str]:
    """The names of the files in a run's folder, those of event files without their time."""
    return {path.name.partition(".tfevents")[0] for path in folder.rglob("*") if path.is_file()}


def run(cwd: Path, *arguments: str) -> str:
    """Runs to the end, which must be a good one; gives what was said."""
    process = prepared.run([*prepared.RUN, *arguments], cwd, VARIABLES)
    assert process.wait() == 0, process.stderr
    return process.stdout


def start(cwd: Path, *arguments: str) -> prepared.Process:
    return prepared.start([*prepared.RUN, *arguments], cwd, VARIABLES)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """While its seed is in this folder no run ends by itself."""
    folder = tmp_path / "held"
    folder.mkdir()
    for seed in (0, 1, 2):
        (folder / str(seed)).touch()
    return folder


@pytest.fixture(scope="module", autouse=True)
def _wrapper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A module of a user's, for the processes of these tests."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "held.py").write_text(WRAPPER)
    VARIABLES.update(os.environ, PYTHONPATH=str(folder), BBRL_EXP_ALLOW="held")
    yield
    VARIABLES.clear()


@pytest.fixture(scope="module")
def straight_ppo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("straight_ppo")
    run(here, *LONG_PPO, "name=straight")
    return here / "outputs" / "straight"


def test_a_run_that_was_killed_eight_times_ends_like_one_that_was_not(
    straight_ppo: Path, tmp_path: Path, held: Path
) -> None:
    chance = random.Random(4)
    folder = tmp_path / "outputs" / "killed"
    for kill in range(8):
        process = start(tmp_path, *LONG_PPO, "name=killed")
        if kill % 4 == 0:
            time.sleep(chance.uniform(0, 0.8))  # perhaps while it starts, or reads its checkpoint
        else:
            wait_for_progress(folder, process)
            time.sleep(chance.uniform(0, 0.06))
        process.send(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert summary_of(folder)["status"] == "running"
    (held / "0").unlink()
    assert "resumes after" in run(tmp_path, *LONG_PPO, "name=killed")
    assert_same_run(straight_ppo, folder)
    assert files_of(folder) == files_of(straight_ppo)


def test_a_run_that_each_signal_has_stopped_ends_like_one_that_was_not(
    straight_ppo: Path, tmp_path: Path, held: Path
) -> None:
    folder = tmp_path / "outputs" / "stopped"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        process = start(tmp_path, *LONG_PPO, "name=stopped")
        wait_for_progress(folder, process)
        before = newest_step(folder)
        process.send(number)
        assert process.wait() == 128 + number
        summary = summary_of(folder)
        assert (summary["status"], summary["error"]) == ("interrupted", f"stopped by {number.name}")
        assert before <= newest_step(folder) == summary["env_steps"] < 10240
    (held / "0").unlink()
    run(tmp_path, *LONG_PPO, "name=stopped")
    assert_same_run(straight_ppo, folder)


def test_a_run_goes_on_elsewhere_and_with_other_workers(tmp_path: Path, held: Path) -> None:
    folder, deep = tmp_path / "elsewhere", tmp_path / "a" / "much" / "deeper one"
    deep.mkdir(parents=True)
    surroundings = [
        (tmp_path, 1, {"TZ": "Asia/Kolkata", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "4"}),
        (deep, 2, {"TZ": "America/St_Johns", "PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "1"}),
        (deep.parent, 0, {"TZ": "UTC", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2"}),
    ]
    for cwd, workers, environment in surroundings:
        options = (f"env.workers={workers}", f"hydra.run.dir={folder}")
        process = start_interpreter(cwd, *SAC, *options, HELD=str(held), **environment)
        wait_for_progress(folder, process)
        if workers > 0:
            children = psutil.Process(process.pid).children()
            assert len(children) == workers
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert psutil.wait_procs(children, timeout=10)[1] == []
    (held / "0").unlink()
    assert process.wait(WAIT) == 0
    run(tmp_path, *SAC, "name=straight")
    assert_same_run(tmp_path / "outputs" / "straight", folder)


def test_a_sweep_that_a_script_has_put_into_the_background_stops_as_a_whole(tmp_path: Path, held: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, *prepared.RUN, "-m", *PPO, HELD, "total_steps=5120", "name=s", "seed=1,2"],
        cwd=tmp_path,
        env=VARIABLES,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    sweep = tmp_path / "outputs" / "multirun" / "s"
    assert held.exists()
    wait_for_progress(sweep / "seed=1", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT) == 128 + signal.SIGINT
    assert not (sweep / "seed=2").exists()


def test_a_sweep_that_was_stopped_and_killed_goes_on_and_its_jobs_end_as_each_alone(tmp_path: Path, held: Path) -> None:
    short = [*PPO, HELD, "total_steps=2560"]
    sweep, folder = ["-m", *short, "name=s", "seed=1,2"], tmp_path / "outputs" / "multirun" / "s"
    for job, number in (("seed=1", signal.SIGINT), ("seed=2", signal.SIGKILL)):
        process = start(tmp_path, *sweep)
        wait_for_progress(folder / job, process)
        process.send(number)
        assert process.wait() == (-number if number == signal.SIGKILL else 128 + number), process.stderr
        while is_in_use(folder / job):  # a job whose sweep was killed saves, and ends
            time.sleep(0.05)
        (held / job[-1]).unlink()
    assert "2 jobs, 1 to run" in run(tmp_path, *sweep)
    for seed in (1, 2):
        run(tmp_path, *short, f"name=alone{seed}", f"seed={seed}")
        assert_same_run(tmp_path / "outputs" / f"alone{seed}", folder / f"seed={seed}")
