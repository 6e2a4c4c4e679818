"""MuJoCo's warnings: each is told once, by logging, and none goes into a file of the folder one stands in."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bbrl_exp.envs import AutoResetGymAgent, told_warnings


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    told: set[str] = set()
    monkeypatch.setattr(told_warnings, "_told", told)
    return told


def test_a_warning_of_many_environments_is_told_once_and_leaves_no_file(
    told: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mujoco = pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    AutoResetGymAgent("HalfCheetah-v5", 2).close()
    for time in ("1.25", "7.5"):
        mujoco.get_mju_user_warning()(f"Nan in QACC at DOF 3. The simulation is unstable. Time = {time}.")
    unstable = [record.message for record in caplog.records if "unstable" in record.message]
    assert unstable == ["Nan in QACC at DOF 3. The simulation is unstable. Time = 1.25."]
    assert len(caplog.records) == len({record.message for record in caplog.records})
    assert all(record.levelno == logging.WARNING and record.name == "mujoco" for record in caplog.records)
    assert list(tmp_path.iterdir()) == []


def test_a_listener_that_is_there_already_stays(told: set[str]) -> None:
    mujoco = pytest.importorskip("mujoco")
    before, heard = mujoco.get_mju_user_warning(), []
    mujoco.set_mju_user_warning(heard.append)
    try:
        AutoResetGymAgent("HalfCheetah-v5", 1).close()
        assert mujoco.get_mju_user_warning() == heard.append
    finally:
        mujoco.set_mju_user_warning(before)
    assert told == set()
