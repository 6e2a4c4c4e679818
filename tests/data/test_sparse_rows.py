"""Sequences that begin at every k-th row only, with the states that a memory had there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recordings import endless

from bbrl_exp.data.replay import ReplayBuffer, ReplayError
from bbrl_exp.data.ring import Field
from bbrl_exp.data.sparse_rows import SparseRows
from bbrl_exp.errors import ConfigurationError, WorkspaceError
from bbrl_exp.workspace import Workspace

STATE = "policy/state"


def buffer_of(stride: int, capacity: int = 60) -> ReplayBuffer:
    return ReplayBuffer(capacity, ["env/env_obs"], ["action"], discount=0.5, states=[STATE], stride=stride)


def rows(first: int, stop: int) -> Workspace:
    """Rows ``first`` … ``stop - 1`` of two environments without an end; the state is -(100·t + b)."""
    return endless(stop - first, 2, first)


@pytest.mark.parametrize("stride", [1, 4, 7])
def test_sequences_begin_at_every_kth_row_with_the_state_of_that_row(stride: int) -> None:
    buffer = buffer_of(stride)
    for first in range(0, 90, 9):
        buffer.put(rows(max(first - 1, 0), first + 9), 0)
        if first < 9:
            continue
        sequences = buffer.sample_sequences(300, 6, np.random.default_rng(0))
        begins, b = sequences["action"][0] // 100, sequences["action"][0] % 100
        oldest, newest = max(0, first + 9 - 31), first + 9 - 6
        assert sorted(set(begins.tolist())) == [t for t in range(oldest, newest + 1) if t % stride == 0]
        assert buffer.n_sequences(6) == 2 * len(set(begins.tolist()))
        assert torch.equal(sequences["action"], sequences["action"][0] + 100 * torch.arange(6)[:, None])
        assert torch.equal(sequences[STATE], -(100 * begins + b).double()[None])


def test_after_a_break_sequences_begin_at_the_next_multiple_and_cross_no_break() -> None:
    buffer = buffer_of(4)
    for first, n_rows in ((0, 10), (10, 9), (19, 12)):
        buffer.begin_recording()
        buffer.put(rows(first, first + n_rows), 0)
    sequences = buffer.sample_sequences(300, 6, np.random.default_rng(0))
    assert sorted(set((sequences["action"][0] // 100).tolist())) == [0, 4, 12, 20, 24]
    assert torch.equal(sequences[STATE], -sequences["action"][:1].double())
    with pytest.raises(ReplayError, match=r"^replay: sequences of length=12 that begin at every 4th row; the longest"):
        buffer.sample_sequences(1, 12, np.random.default_rng(0))


@pytest.mark.parametrize("stride", [1, 4])
def test_a_restored_buffer_draws_what_the_saved_one_draws(stride: int) -> None:
    saved, restored = buffer_of(stride), buffer_of(stride)
    segments = []
    for first in range(0, 70, 7):
        saved.put(rows(max(first - 1, 0), first + 7), 0)
        segments.append((first, saved.read_rows(first, first + 7)))
    restored.load_state(saved.state())
    for first, segment in segments:
        if first + 7 > saved.kept_rows.start:
            restored.load_rows(first, segment)
    for buffer in (saved, restored):
        buffer.put(rows(69, 80), 0)
    one, other = (buffer.sample_sequences(200, 5, np.random.default_rng(1)) for buffer in (saved, restored))
    assert torch.equal(one["action"], other["action"])
    assert torch.equal(one[STATE], other[STATE])


def test_a_buffer_with_another_stride_is_not_restored() -> None:
    saved = buffer_of(4)
    saved.put(rows(0, 9), 0)
    with pytest.raises(ConfigurationError, match=r"^replay: this buffer has stride 3, the saved one 4$"):
        buffer_of(3).load_state(saved.state())


def test_states_of_another_shape_are_refused() -> None:
    buffer, wrong = buffer_of(4), Workspace()
    buffer.put(rows(0, 9), 0)
    right = rows(8, 12)
    for name in list(right.keys()):
        wrong.set_full(name, torch.zeros(4, 2, 3).double() if name == STATE else right[name])
    with pytest.raises(
        WorkspaceError, match=r"^replay: 'policy/state': expected \[3, 2\] float64, found \[3, 2, 3\] float64$"
    ):
        buffer.put(wrong, 0)


def test_a_kth_of_the_states_takes_a_kth_of_the_memory() -> None:
    fields = {STATE: Field((64,), torch.float32)}
    assert SparseRows.bytes_for(fields, 1, 1000, 2) == 1000 * 2 * 64 * 4
    assert SparseRows.bytes_for(fields, 10, 1000, 2) == 100 * 2 * 64 * 4
