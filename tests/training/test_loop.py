"""The interaction loop: every time step once, chunk after chunk."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bbrl_exp.agents import Agent, TemporalAgent
from bbrl_exp.training.loop import Chunk, collect, n_chunks
from bbrl_exp.workspace import Workspace


class Counter(Agent):
    """Counts the time steps of the run, whatever the row."""

    def __init__(self) -> None:
        super().__init__()
        self.time = -1

    def forward(self, t: int, **kwargs: Any) -> None:
        self.time += 1
        self.set(("time", t), torch.full((3,), self.time))


@pytest.mark.parametrize(("total", "chunks"), [(1, 1), (12, 1), (13, 2), (120, 10)])
def test_the_number_of_steps_is_rounded_up_to_a_whole_chunk(total: int, chunks: int) -> None:
    assert n_chunks(total, batch_size=3, steps_per_chunk=4) == chunks


def test_the_new_rows_of_all_chunks_are_every_time_step_once() -> None:
    workspace = Workspace()
    seen, chunks = [], []
    for chunk in collect(TemporalAgent(Counter()), workspace, total_steps=30, batch_size=3, steps_per_chunk=4):
        assert workspace.time_size() == 5
        new = workspace["time"][chunk.first_new_row :, 0].tolist()
        assert new[0] == chunk.first_time
        assert len(new) == chunk.n_new_rows
        seen += new
        chunks.append(chunk)
    assert seen == list(range(13))
    assert chunks == [Chunk(0, 0, 5, 12), Chunk(1, 5, 4, 24), Chunk(1, 9, 4, 36)]


def test_consecutive_chunks_share_one_row() -> None:
    workspace = Workspace()
    last = None
    for _ in collect(TemporalAgent(Counter()), workspace, total_steps=60, batch_size=3, steps_per_chunk=5):
        rows = workspace["time"][:, 0].tolist()
        assert last is None or rows[0] == last
        last = rows[-1]


def test_the_loop_leaves_gradients_enabled_for_the_caller() -> None:
    for _ in collect(TemporalAgent(Counter()), Workspace(), total_steps=30, batch_size=3, steps_per_chunk=5):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
