"""Environments that draw from global generators repeat themselves, in workers and in evaluations too."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor
from toy_envs import GlobalDice

from bbrl_exp import evaluate, run
from bbrl_exp.commands.record import record
from bbrl_exp.data.recording import load_recording
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.seeding import untouched_global_generators
from bbrl_exp.workspace import Workspace


@pytest.fixture
def global_dice() -> Any:
    gymnasium.register("GlobalDice-v0", entry_point=GlobalDice, max_episode_steps=3)
    yield "GlobalDice-v0"
    del gymnasium.registry["GlobalDice-v0"]


def rows_of_workers(seed: int, *, again: bool = False) -> Tensor:
    agent = AutoResetGymAgent(GlobalDice, 4, seed, workers=2)
    workspace = Workspace()
    for _ in range(2 if again else 1):
        agent.seed(seed)
        for t in range(6):
            agent(workspace, t=t)
            workspace.set("action", t, torch.zeros(4, dtype=torch.int64))
    agent.close()
    return workspace["env/env_obs"]


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    """What workers record with the seed 3."""
    return rows_of_workers(3)


def test_workers_repeat_themselves_by_seed(rows: torch.Tensor) -> None:
    assert rows.equal(rows_of_workers(3))
    assert rows.equal(rows_of_workers(3, again=True))
    assert not (rows == rows_of_workers(4)).any()


def test_no_two_workers_draw_the_same_numbers(rows: torch.Tensor) -> None:
    for component in range(4):
        assert not np.intersect1d(rows[:, :2, component], rows[:, 2:, component]).size


def disturb() -> None:
    random.random(), np.random.random(), torch.rand(1)


def recorded(folder: Path) -> list[float]:
    path = folder / "recording.pt"
    path.unlink(missing_ok=True)
    record(str(folder), 8, path)
    found: list[float] = load_recording(path)["env/env_obs"].flatten().tolist()
    return found


@pytest.mark.parametrize("play", [lambda folder: evaluate(folder, 2).returns, recorded], ids=["evaluate", "record"])
def test_what_plays_a_finished_run_repeats_itself_and_leaves_the_generators_alone(
    play: Callable[[Path], object], global_dice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        GlobalDice, "step", lambda self, action: (self._observation(), random.random(), *[False] * 2, {})
    )
    sizes = ["total_steps=8", "batch_size=2", "agent.steps_per_chunk=4", "tracking=none", "eval.final_episodes=2"]
    with untouched_global_generators():
        result = run(["agent=random", "env=gym", f"env.id={global_dice}", "name=dice", *sizes])
        found = []
        for _ in range(2):
            disturb()
            before = random.getstate()
            found.append(play(result.folder))
            assert random.getstate() == before
    assert found[0] == found[1]
    if play is not recorded:
        assert result.summary.eval_returns == found[0]
