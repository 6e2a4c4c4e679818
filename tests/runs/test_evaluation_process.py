"""An evaluation gives the same numbers in the process beside the run, which knows what the run's program knows."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from bbrl_exp import run

SHORT = [
    "agent=random",
    "env=gym",
    "batch_size=2",
    "total_steps=64",
    "eval.every=32",
    "eval.episodes=2",
    "tracking=none",
]
ENVIRONMENT = """
import random

import gymnasium
import numpy as np
import torch


class Lottery(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.n_steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.n_steps += 1
        reward = random.random() + np.random.random() + float(torch.rand(()))
        return np.zeros(1, np.float32), reward, self.n_steps == 5, False, {}
"""
REGISTERED = 'gymnasium.register("Lottery-v0", Lottery)'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_environment_that_draws_from_the_global_generators_is_evaluated_alike_here_and_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lotteries.py").write_text(f"{ENVIRONMENT}\n\n{REGISTERED}\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("lotteries")
    try:
        results = [run([*SHORT, "env.id=Lottery-v0", f"eval.workers={workers}"]) for workers in (0, 1, 1)]
    finally:
        del gymnasium.registry["Lottery-v0"]
    assert results[0].summary.evaluations
    for result in results[1:]:
        assert result.summary.return_mean == results[0].summary.return_mean
        assert result.summary.evaluations == results[0].summary.evaluations


@pytest.mark.parametrize("entry_point", ["Lottery", "'__main__:Lottery'"])
def test_an_environment_that_a_script_defines_and_registers_is_known_beside_it(
    tmp_path: Path, entry_point: str
) -> None:
    arguments = [*SHORT, "env.id=Lottery-v0", "eval.workers=1"]
    registered = REGISTERED.replace(", Lottery)", f", {entry_point})")
    runs = f"if __name__ == '__main__':\n    from bbrl_exp import run\n\n    run({arguments})\n"
    (tmp_path / "script.py").write_text(f"{ENVIRONMENT}\n\n{registered}\n{runs}")
    ended = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
