"""A tracker with the sinks of its settings, and what it is told about a run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bbrl_exp.tracking.console import Console, PlainConsole
from bbrl_exp.tracking.positions import Positions
from bbrl_exp.tracking.settings import TrackingSettings
from bbrl_exp.tracking.sink import Parameter, RunFacts, Sink
from bbrl_exp.tracking.sinks import ConsoleSink, CsvSink, TensorBoardSink
from bbrl_exp.tracking.tracker import Tracker

SINKS: Mapping[str, type[Sink]] = {"tensorboard": TensorBoardSink, "csv": CsvSink, "console": ConsoleSink}


def facts(
    folder: Path,
    *,
    batch_size: int = 1,
    time_steps: int = 9,
    resumed_at: int | None = None,
    console: Console | None = None,
    hyperparameters: Mapping[str, Parameter] | None = None,
    setting: str = "setting",
) -> RunFacts:
    return RunFacts(
        folder=folder,
        run_id="0123456789abcdef",
        name=folder.name,
        group=None,
        agent="ppo",
        env="cartpole",
        env_id="CartPole-v1",
        seed=0,
        batch_size=batch_size,
        total_steps=time_steps * batch_size,
        config={"seed": 0},
        config_hash="ab",
        overrides=(),
        hyperparameters=hyperparameters or {"agent": "ppo"},
        setting=setting,
        git_commit=None,
        resumed_at=resumed_at,
        console=console or PlainConsole(io.StringIO()),
    )


def tracker_for(
    folder: Path,
    settings: TrackingSettings,
    *,
    others: Mapping[str, Sink] | None = None,
    continued: Positions | None = None,
    learns: bool = False,
    discrete_actions: Mapping[str, tuple[int, int]] | None = None,
    clock: Any = None,
    **told: Any,
) -> Tracker:
    """A tracker that has begun; a resumed one resumes at step 1 unless it is told otherwise."""
    sinks = {name: SINKS[name]() for name in settings.active_sinks} | dict(others or {})
    if continued is not None:
        told.setdefault("resumed_at", 1)
    tracker = Tracker(
        sinks,
        facts(folder, **told),
        settings,
        learns=learns,
        discrete_actions=discrete_actions,
        continued=continued,
        **({} if clock is None else {"clock": clock}),
    )
    try:
        tracker.begin()
    except BaseException:
        tracker.close("failed")
        raise
    return tracker
