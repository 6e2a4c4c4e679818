"""What is measured of the speed of a run."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from bbrl_exp.records.metrics import SPEED, MetricsFile
from bbrl_exp.records.summary import Summary
from bbrl_exp.runs.estimate import Estimate, MeasurementFailure, _found_in

SUMMARY = Summary("interrupted", "ppo", "cartpole", "CartPole-v1", 1, 8, env_steps=1000, steps_per_second=50.0)


def n_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_speed_is_the_median_of_the_second_half_and_the_disk_what_is_written_a_step(tmp_path: Path) -> None:
    SUMMARY.write(tmp_path)
    with contextlib.closing(MetricsFile(tmp_path)) as metrics:
        for step, speed in enumerate((1.0, 2.0, 3.0, 100.0, 300.0, 200.0)):
            metrics.scalars(step, {SPEED: speed})
    expected = n_bytes(tmp_path) / 1000
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step_1000.pt").write_bytes(bytes(10_000))
    assert _found_in(tmp_path) == Estimate(200.0, expected)


def test_without_speeds_the_summary_counts(tmp_path: Path) -> None:
    SUMMARY.write(tmp_path)
    found = _found_in(tmp_path)
    assert isinstance(found, Estimate)
    assert found.steps_per_second == 50.0


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_measured_run_that_failed_says_why(status: Literal["failed", "diverged"], tmp_path: Path) -> None:
    replace(SUMMARY, status=status, error="no more").write(tmp_path)
    assert _found_in(tmp_path) == MeasurementFailure("no more")


@pytest.mark.parametrize("changes", [{"env_steps": 0}, {"status": "running"}])
def test_a_run_that_did_no_step_has_no_estimate(changes: dict[str, object], tmp_path: Path) -> None:
    replace(SUMMARY, **changes).write(tmp_path)  # type: ignore[arg-type]
    assert _found_in(tmp_path) is None


def test_a_run_that_left_nothing_has_no_estimate(tmp_path: Path) -> None:
    assert _found_in(tmp_path) is None
