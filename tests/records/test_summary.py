"""summary.json, the plan, provenance."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from bbrl_exp.config.run_size import RunSize
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.records.files import write_json
from bbrl_exp.records.provenance import config_hash
from bbrl_exp.records.summary import Summary, read_summary


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [math.inf, 1.5], "c": (2,)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 1.5], "c": [2]}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_leaves_what_was_written_before_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_json(tmp_path / "x.json", {"a": 1})
    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(BbrlExpError, match=r"^cannot write '.*x\.json': No space left on device$"):
        write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_summary_comes_back(tmp_path: Path) -> None:
    Summary("running", "random", "cartpole", "CartPole-v1", 0, 8).write(tmp_path)
    found = read_summary(tmp_path)
    assert found is not None
    assert (found["status"], found["eval_return_mean"]) == ("running", None)


def test_a_damaged_summary_is_none(tmp_path: Path) -> None:
    Summary("running", "random", "cartpole", "CartPole-v1", 0, 8).write(tmp_path)
    path = tmp_path / "summary.json"
    path.write_bytes(path.read_bytes()[:20])
    assert read_summary(tmp_path) is None


def test_the_hash_does_not_depend_on_the_name_or_the_order_of_the_root() -> None:
    assert config_hash({"name": "a", "seed": 0, "batch_size": 1}) == config_hash(
        {"batch_size": 1, "seed": 0, "name": None}
    )
    assert config_hash({"seed": 0}) != config_hash({"seed": 1})


@pytest.mark.parametrize("group", ["members", "wrappers"])
def test_the_hash_depends_on_the_order_of_members_and_wrappers(group: str) -> None:
    assert config_hash({"agent": {group: {"c": {"x": 1}, "d": {}}}}) != config_hash(
        {"agent": {group: {"d": {}, "c": {"x": 1}}}}
    )


def test_steps_are_rounded_up_to_a_whole_chunk() -> None:
    plan = RunSize(total_steps=1025, batch_size=8, steps_per_chunk=128, chunks_per_recording=1, bytes_per_time_step=10)
    assert (plan.chunks, plan.time_steps, plan.env_steps) == (2, 256, 2048)
    assert plan.workspace_bytes == 129 * 10


def test_a_workspace_that_cannot_fit_is_refused_with_both_sizes() -> None:
    plan = RunSize(total_steps=1, batch_size=8, steps_per_chunk=33, chunks_per_recording=3, bytes_per_time_step=10**7)
    with pytest.raises(ConfigurationError, match=r"needs 1 GB and 500 MB of memory are there"):
        plan.check_memory(500 * 10**6)
    plan.check_memory(10**9)


def test_replay_buffers_count_beside_the_workspace() -> None:
    plan = RunSize(1, 8, 33, 3, bytes_per_time_step=10**7, replay_capacity=70, replay_bytes=5 * 10**8)
    with pytest.raises(ConfigurationError, match=r"'agent.learner.replay_capacity' = 70: .* needs 500 MB, .* 1 GB, "):
        plan.check_memory(1_499_999_999)
    plan.check_memory(15 * 10**8)


def test_a_summary_of_another_version_is_read_as_far_as_it_is_known() -> None:
    found = Summary.of({"status": "completed", "env_steps": 5, "of_later": 1})
    assert (found.status, found.env_steps, found.agent) == ("completed", 5, None)
