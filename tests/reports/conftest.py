"""Folders of runs, as small as they can be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bbrl_exp.records.layout import CONFIG, HYDRA
from bbrl_exp.records.metrics import EVALUATIONS, MetricsFile
from bbrl_exp.records.summary import Summary

WriteRun = Callable[..., Path]


def _write_run(
    folder: Path,
    *,
    agent: str = "ppo",
    env: str = "cartpole",
    seed: int = 0,
    score: float | None = 100.0,
    curve: Mapping[int, float] | None = None,
    config: Mapping[str, Any] | None = None,
    **summary: Any,
) -> Path:
    (folder / HYDRA).mkdir(parents=True)
    settings = {"agent": {"learner": {"name": agent}}, "env": {"id": f"{env}-v1"}, "seed": seed, "name": "s"}
    OmegaConf.save(OmegaConf.create({**settings, **(config or {})}), folder / CONFIG)
    contents = Summary(
        "completed",
        agent=agent,
        env=env,
        env_id=f"{env}-v1",
        seed=seed,
        batch_size=8,
        env_steps=1000,
        return_mean=None if score is None else score / 2,
        eval_return_mean=score,
        wall_seconds=2.0,
        steps_per_second=500.0 + seed,
        overrides=(f"agent={agent}", f"seed={seed}"),
        versions={"python": "3.11.0"},
    )
    replace(contents, **summary).write(folder)
    points = {500: 50.0, 1000: 100.0 if score is None else score} if curve is None else curve
    with contextlib.closing(MetricsFile(folder)) as metrics:
        for step, value in points.items():
            metrics.scalars(step, {EVALUATIONS: value})
    return folder


@pytest.fixture
def write_run() -> WriteRun:
    """Writes the folder of a run: ``write_run(folder, agent="dqn", seed=1, score=20.0)``."""
    return _write_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three seeds of two agents: ppo scores 400, 410, 420 and random 20, 21, 22."""
    for agent, low, step in (("ppo", 400.0, 10), ("random", 20.0, 1)):
        for seed in range(3):
            _write_run(tmp_path / "s" / f"agent={agent},seed={seed}", agent=agent, seed=seed, score=low + step * seed)
    return tmp_path / "s"
