"""Replay buffers on disk: what a list refers to can be read, whatever happened after it was made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bbrl_exp.data.prioritised import PrioritisedReplay
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.training import checkpoints as checkpoints_module
from bbrl_exp.training.checkpoint import write_checkpoint
from bbrl_exp.training.checkpoints import Segment, Segments, read_segment
from bbrl_exp.workspace import Workspace

CAPACITY = 60


def new_buffer() -> ReplayBuffer:
    return ReplayBuffer(CAPACITY, ["env/image"], ["action"], discount=0.5, n_steps=3, extras=())


def rows(first: int, stop: int, batch_size: int) -> Workspace:
    """Rows ``first`` … ``stop - 1`` of a recording in which every 7th row ends an episode; row t shows 10·t + b."""
    t = torch.arange(first, stop)[:, None].expand(-1, batch_size)
    identity = 10 * t + torch.arange(batch_size)
    done, never = t % 7 == 6, torch.zeros_like(t, dtype=torch.bool)
    workspace = Workspace()
    workspace.set_full("env/image", (identity % 251).to(torch.uint8)[:, :, None, None].repeat(1, 1, 2, 3))
    workspace.set_full("action", identity)
    workspace.set_full("env/reward", identity.float())
    for name, value in (("terminated", done), ("done", done), ("truncated", never), ("initial_state", t % 7 == 0)):
        workspace.set_full(f"env/{name}", value)
    return workspace


def read_anew(folder: Path, state: dict[str, Any], segments: list[Segment]) -> ReplayBuffer:
    buffer = new_buffer()
    buffer.load_state(state)
    Segments(folder, "replay", buffer).load(segments)
    return buffer


def assert_equal(one: ReplayBuffer, other: ReplayBuffer) -> None:
    assert one.state() == other.state()
    kept = one.kept_rows
    ours, theirs = (buffer.read_rows(kept.start, kept.stop) for buffer in (one, other))
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype
        assert torch.equal(value, theirs[name])
    batches = [buffer.sample(50, np.random.default_rng(3)) for buffer in (one, other)]
    assert batches[0].indexes.tolist() == batches[1].indexes.tolist()
    assert torch.equal(batches[0].rewards, batches[1].rewards)
    assert torch.equal(batches[0].next_observations[0], batches[1].next_observations[0])
    sequences = [buffer.sample_sequences(20, 4, np.random.default_rng(3))["env/image"] for buffer in (one, other)]
    assert sequences[0].dtype == torch.uint8
    assert torch.equal(*sequences)


def saved(folder: Path, batch_size: int = 3, n_rows: int = 70) -> Iterator[tuple[ReplayBuffer, list[Segment]]]:
    """A run that saves every ten rows; its checkpoint is written when it yields."""
    buffer = new_buffer()
    written = Segments(folder, "replay", buffer)
    for first in range(0, n_rows, 10):
        buffer.put(rows(max(first - 1, 0), first + 10, batch_size), 0)
        segments = written.write()
        yield buffer, segments
        written.remove_all_but(segments)


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "replay").iterdir()}


@pytest.mark.parametrize("small_bytes", [0, 500, 1 << 20])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_buffer_is_read_as_it_was_written_before_and_after_it_is_full(
    batch_size: int, small_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints_module, "_SMALL", small_bytes)
    for buffer, segments in saved(tmp_path, batch_size):
        assert_equal(read_anew(tmp_path, buffer.state(), segments), buffer)


def test_a_restored_run_goes_on_with_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints_module, "_SMALL", 0)
    *_, (_, straight) = saved(tmp_path / "straight")
    run = saved(tmp_path)
    for _ in range(4):
        buffer, segments = next(run)
    again = new_buffer()
    again.load_state(buffer.state())
    written = Segments(tmp_path, "replay", again)
    written.load(segments)
    for first in (40, 50, 60):
        again.put(rows(first - 1, first + 10, 3), 0)
        segments = written.write()
    assert segments == straight
    written.remove_all_but(segments)
    assert files(tmp_path) == files(tmp_path / "straight")


def test_only_new_rows_are_written_and_small_segments_grow(tmp_path: Path) -> None:
    names = [[segment["file"] for segment in segments] for _, segments in saved(tmp_path, n_rows=40)]
    # The last 21 rows are kept; a segment of which some are gone is not written again.
    assert names == [
        ["replay_0_10.pt"],
        ["replay_0_20.pt"],
        ["replay_0_20.pt", "replay_20_30.pt"],
        ["replay_0_20.pt", "replay_20_40.pt"],
    ]
    assert files(tmp_path) == {f"{name}{suffix}" for name in names[-1] for suffix in ("", ".sha256")}


def test_a_list_of_no_new_rows_is_the_list_before(tmp_path: Path) -> None:
    buffer = new_buffer()
    written = Segments(tmp_path, "replay", buffer)
    assert written.write() == []
    buffer.put(rows(0, 9, 2), 0)
    segments = written.write()
    path = tmp_path / "replay" / segments[0]["file"]
    before = path.stat().st_mtime_ns
    assert written.write() == segments
    assert path.stat().st_mtime_ns == before


def test_many_new_rows_are_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A row of one environment: six bytes of an image, an action, a reward, four flags.
    monkeypatch.setattr(checkpoints_module, "_LARGEST", 10 * (6 + 8 + 4 + 4) + 1)
    buffer = new_buffer()
    buffer.put(rows(0, 35, 1), 0)
    segments = Segments(tmp_path, "replay", buffer).write()
    assert [(segment["first"], segment["stop"]) for segment in segments] == [(0, 10), (10, 20), (20, 30), (30, 35)]
    assert_equal(read_anew(tmp_path, buffer.state(), segments), buffer)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * 900)])
def test_a_segment_that_is_damaged_or_gone_is_named(damage: Callable[[Path], None], tmp_path: Path) -> None:
    *_, (buffer, segments) = saved(tmp_path)
    name = segments[-1]["file"]
    damage(tmp_path / "replay" / name)
    with pytest.raises(ConfigurationError, match=name):
        read_anew(tmp_path, buffer.state(), segments)
    with pytest.raises(ConfigurationError, match=name):
        read_segment(tmp_path, segments[-1])


def test_a_file_with_its_own_checksum_that_is_not_the_one_of_the_list_is_refused(tmp_path: Path) -> None:
    *_, (buffer, segments) = saved(tmp_path)
    name = segments[0]["file"]
    write_checkpoint(tmp_path / "replay" / name, {"action": torch.zeros(1)}, {})
    with pytest.raises(ConfigurationError, match=name):
        read_anew(tmp_path, buffer.state(), segments)


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    buffer = new_buffer()
    buffer.put(rows(0, 9, 2), 0)
    (tmp_path / "replay" / f".replay_0_9.pt.{os.getpid()}.part").mkdir(parents=True)
    with pytest.raises(BbrlExpError, match="replay_0_9"):
        Segments(tmp_path, "replay", buffer).write()


def test_what_a_killed_run_left_is_removed_and_nothing_of_another_buffer(tmp_path: Path) -> None:
    *_, (buffer, segments) = saved(tmp_path)
    before = files(tmp_path)
    left = "replay_3_9.pt", "replay_3_9.pt.sha256"
    others = "replay_b_3_9.pt", "a_replay_3_9.pt"
    for name in (*left, *others):
        (tmp_path / "replay" / name).write_bytes(b"")
    Segments(tmp_path, "replay", buffer).remove_all_but(segments)
    assert files(tmp_path) == before | set(others)


class Killed(BaseException):
    """The process is gone."""


def test_a_run_killed_at_any_moment_leaves_what_the_last_checkpoint_refers_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, limit = 0, 10**9

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise Killed
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(checkpoints_module, "_SMALL", 400)
    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, killing(getattr(owner, name)))
    for limit in range(200):
        folder = tmp_path / str(limit)
        run, checkpoint, calls = saved(folder, 1, 40), None, 0
        try:
            for buffer, segments in run:
                checkpoint = buffer.state(), segments
        except Killed:
            pass
        else:
            break
        n_done, limit = limit, 10**9
        if checkpoint is not None:
            assert_equal(read_anew(folder, *checkpoint), buffer_after(checkpoint[0]["ring"]["n_rows"]))
        limit = n_done
    assert checkpoint is not None
    assert limit > 30


def buffer_after(n_rows: int) -> ReplayBuffer:
    buffer = new_buffer()
    buffer.put(rows(0, n_rows, 1), 0)
    return buffer


def test_priorities_are_part_of_the_state_and_rows_of_the_segments(tmp_path: Path) -> None:
    replay = PrioritisedReplay(new_buffer())
    replay.put(rows(0, 50, 3), 0)
    stored = replay.buffer.stored
    replay.update(np.arange(stored.start, stored.stop), torch.arange(float(len(stored))))
    segments = Segments(tmp_path, "replay", replay.buffer).write()
    restored = PrioritisedReplay(new_buffer())
    restored.load_state(replay.state())
    Segments(tmp_path, "replay", restored.buffer).load(segments)
    batches = [one.sample(40, np.random.default_rng(1), importance_exponent=0.4) for one in (replay, restored)]
    assert batches[0].indexes.tolist() == batches[1].indexes.tolist()
    assert torch.equal(batches[0].weights, batches[1].weights)
    assert torch.equal(batches[0].next_observations[0], batches[1].next_observations[0])
