"""Results of learning runs: one JSON line a run, one file a pair, and the measured child process that makes one."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

FOLDER = Path(__file__).parent / "results" / "learning"
EVALUATIONS = 20
EVALUATION_EPISODES = 10
FINAL_EPISODES = 20
EVALUATION_SEED = 0
THRESHOLDS: Mapping[str, float] = {
    "cartpole": 475,
    "masked_cartpole": 475,
    "acrobot": -100,
    "pendulum": -200,
    "masked_pendulum": -300,
    "mountain_car": -110,
    "mountain_car_continuous": 90,
    "lunar_lander": 200,
    "half_cheetah": 4800,
    "hopper": 2000,
    "walker2d": 2000,
    "t_maze": 0.99,
    "repeat_first_easy": 0.95,
    "repeat_previous_easy": 0.95,
    "masked_mountain_car_continuous": 90,
    "minigrid_memory": 0.9,
    "minigrid_empty": 0.9,
    "minigrid_doorkey": 0.9,
}

# Runs that take hours on one core, and how many of their environment steps the benchmark does: their learners have no
# schedules, so that these are the first steps of the whole run.
SHORTENED: Mapping[str, int] = {
    "sac_half_cheetah": 50_000,
    "sac_hopper": 50_000,
    "td3_half_cheetah": 50_000,
    "td3_hopper": 50_000,
}


@dataclass(frozen=True)
class Record:
    """What one run has shown.

    Attributes:
        pair: ``<agent>_<env>``.
        implementation: who ran it: ``bbrl_exp`` or the peer's name.
        version: the commit of the project, or the peer's version.
        seed: the training seed.
        env_steps: environment steps done.
        curve: (environment steps, mean return of 10 episodes) of each periodic evaluation.
        final_returns: the returns of the last policy's final evaluation.
        cpu_seconds: user and system time of the whole process, evaluations and start-up included.
        note: why a run is shorter than it should be.
    """

    pair: str
    implementation: str
    version: str
    seed: int
    env_steps: int
    curve: Sequence[tuple[int, float]]
    final_returns: Sequence[float]
    cpu_seconds: float
    note: str = ""

    @property
    def final(self) -> float:
        """Mean return of the last policy."""
        return sum(self.final_returns) / len(self.final_returns)

    @property
    def curve_mean(self) -> float:
        """Mean of the periodic evaluations."""
        return sum(mean_return for _, mean_return in self.curve) / len(self.curve)


def env_of(pair: str) -> str:
    """The environment's name in ``<agent>_<env>``: the longest known one that the pair ends with.

    Raises:
        ValueError: it ends with none of ``THRESHOLDS``.
    """
    names = [name for name in THRESHOLDS if pair.endswith(f"_{name}")]
    if not names:
        raise ValueError(f"pair {pair!r} ends with no known environment; known: {', '.join(THRESHOLDS)}")
    return max(names, key=len)


def read_records(folder: Path = FOLDER) -> dict[tuple[str, str, int], Record]:
    """The last record of each (pair, implementation, seed)."""
    records = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = Record(**json.loads(line))
            records[record.pair, record.implementation, record.seed] = record
    return records


def append_record(record: Record, folder: Path = FOLDER) -> None:
    """Adds a line to the file of the record's pair."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{record.pair}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(record)) + "\n")


def cpu_seconds_of(
    command: Sequence[str], cwd: Path, log: Path, limit: float | None = None, is_detached: bool = False
) -> float:
    """Runs a child process on one thread and returns the CPU seconds that it and its own children took.

    Args:
        command: program and arguments.
        cwd: where it runs.
        log: file for what it prints.
        limit: CPU seconds after which it is asked to end, by SIGTERM; that it then does so is no error.
        is_detached: whether Ctrl-C does not reach it.

    Raises:
        RuntimeError: it failed; the message ends with its last lines.
    """
    with log.open("w", encoding="utf-8") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(
            command, cwd=cwd, stdout=output, stderr=output, env=environment, start_new_session=is_detached
        )
        allowed = {0} if limit is None or not _ends_by_limit(child.pid, limit) else {0, 128 + signal.SIGTERM}
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in allowed:
        last_lines = "\n".join(log.read_text(encoding="utf-8").splitlines()[-8:])
        raise RuntimeError(f"exit code {child.returncode} of {' '.join(command)}:\n{last_lines}")
    return usage.ru_utime + usage.ru_stime


def _ends_by_limit(pid: int, limit: float) -> bool:
    """Waits until a child has ended, or has taken ``limit`` CPU seconds and was asked to; says which."""
    process = psutil.Process(pid)
    while process.status() != psutil.STATUS_ZOMBIE:
        times = process.cpu_times()
        if times.user + times.system > limit:
            os.kill(pid, signal.SIGTERM)
            return True
        time.sleep(0.2)
    return False
