"""Contestants of a benchmark, each in turn in every round, and peers that run in another Python."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from unittest import mock

import torch

Contestant = Callable[[int, float], float]
"""From a seed and a scale of the work to a speed, in the task's unit."""

REJAX_PPO = """
settings = dict(env="CartPole-v1", num_envs=8, num_steps=128, num_epochs=4, num_minibatches=4, learning_rate=2.5e-4,
    ent_coef=0.01, total_timesteps=n_steps, eval_freq=n_steps, skip_initial_evaluation=True,
    agent_kwargs=dict(hidden_layer_sizes=(64, 64), activation="tanh"))
learner = rejax.PPO.create(**settings).replace(eval_callback=lambda *_: ())
"""
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def speed_of_program(python: str, program: str, *numbers: int) -> float:
    """The last word that a program prints, run by another Python, in one thread."""
    command = [python, "-W", "ignore", "-c", program, *map(str, numbers)]
    done = subprocess.run(command, env={**os.environ, **_ONE_THREAD}, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


@contextlib.contextmanager
def cpu_time_in_another_folder() -> Iterator[None]:
    """While the block runs, seconds are CPU seconds of one thread, and the current folder is a temporary one."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.object(time, "perf_counter", time.process_time),
    ):
        yield


def speeds_of(task: str, contestants: Mapping[str, Contestant], n_rounds: int, scale: float) -> dict[str, list[float]]:
    """The speed of each contestant in each round."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for seed in range(n_rounds):
        for name, contestant in contestants.items():
            speeds[name].append(contestant(seed, scale))
        sys.stderr.write(f"{task}, round {seed + 1} of {n_rounds}: done\n")
    return speeds
