"""What a run records of memories: norms and saturation, from the states in the workspace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bbrl_exp.records.metrics import read_points
from bbrl_exp.tracking.memories import MemoryRecords
from bbrl_exp.tracking.settings import TrackingSettings
from bbrl_exp.workspace import Workspace

from .records import tracker_for


def chunk(n_rows: int = 3, **others: Tensor) -> Workspace:
    """Two environments: norms of ``policy/state`` are 5 in row 1, and 10 and 0 in row 2, where an episode begins."""
    workspace = Workspace()
    states = torch.tensor([[[0.0, 0.0]] * 2, [[3.0, 4.0]] * 2, [[6.0, 8.0], [0.0, 0.0]]])
    starts = torch.tensor([[True, True], [False, False], [False, True]])
    variables = {"env/initial_state": starts, "policy/state": states, **others}
    for name, values in variables.items():
        workspace.set_full(name, values[:n_rows])
    return workspace


def test_the_norm_is_the_mean_over_rows_in_which_no_episode_begins() -> None:
    found = MemoryRecords(100, {}).take(chunk(), 0, 50)
    assert found == {"memory/policy/state_norm": pytest.approx((5 + 5 + 10) / 3)}


def test_rows_that_were_recorded_before_do_not_count() -> None:
    assert MemoryRecords(100, {}).take(chunk(), 2, 50) == {"memory/policy/state_norm": 10.0}


def test_the_saturation_is_the_fraction_of_units_within_one_percent_of_a_bound() -> None:
    units = {"policy/state": lambda states: states[..., :1] / 6.0}
    found = MemoryRecords(100, units).take(chunk(), 0, 50)
    assert found["memory/policy/saturation"] == pytest.approx(1 / 3)


def test_of_very_large_states_evenly_spaced_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bbrl_exp.tracking.memories._MOST_NUMBERS", 4)  # of the 8 of rows 1 and 2
    assert MemoryRecords(100, {}).take(chunk(), 1, 50) == {"memory/policy/state_norm": 5.0}


def test_every_memory_has_its_own_numbers_whoever_writes_it() -> None:
    others = {"critic/state": torch.ones(3, 2, 4), "mine/state": torch.full((3, 2, 1), 7.0)}
    assert MemoryRecords(100, {}).take(chunk(**others), 0, 50) == {
        "memory/policy/state_norm": pytest.approx(20 / 3),
        "memory/critic/state_norm": 2.0,
        "memory/mine/state_norm": 7.0,
    }


def test_what_is_no_memory_has_none() -> None:
    others = {
        "env/env_obs/state": torch.ones(3, 2, 4),
        "normalized/env/env_obs/state": torch.ones(3, 2, 4),
        "light/state": torch.ones(3, 2, 1, dtype=torch.int64),
        "scalar/state": torch.ones(3, 2),
        "picture/state": torch.ones(3, 2, 4, 4),
    }
    assert [*MemoryRecords(100, {}).take(chunk(**others), 0, 50)] == ["memory/policy/state_norm"]


def test_a_chunk_in_which_every_row_begins_an_episode_has_no_numbers() -> None:
    assert MemoryRecords(100, {}).take(chunk(n_rows=1), 0, 50) == {}


def test_records_are_as_far_apart_as_those_of_the_learner_and_a_resumed_run_continues_them(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("straight", "resumed")]
    for folder in folders:
        folder.mkdir()
        tracker = tracker_for(folder, TrackingSettings(tensorboard=False, metrics_every=6), batch_size=2, time_steps=12)
        for first in range(0, 12, 2):
            if folder.name == "resumed" and first == 6:
                state, positions = tracker.state(), tracker.positions()
                tracker.close("interrupted")
                tracker = tracker_for(
                    folder, TrackingSettings(tensorboard=False, metrics_every=6), batch_size=2, continued=positions
                )
                tracker.load_state(state)
            done = {"env/done": torch.zeros(3, 2, dtype=torch.bool), "env/timestep": torch.zeros(3, 2)}
            tracker.chunk(chunk(**done, **{"env/cumulated_reward": torch.zeros(3, 2)}), 1, first + 1)
        tracker.close("completed")
    straight, resumed = (read_points(folder, "memory/policy/state_norm") for folder in folders)
    assert straight == resumed
    assert [point.env_steps for point in straight] == [4, 8, 12, 20, 24]
