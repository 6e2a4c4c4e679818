"""The interaction loop: every time step once, chunk after chunk."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bbrl_exp.agents import Agent, TemporalAgent
from bbrl_exp.errors import ConfigurationError, UserCodeError
from bbrl_exp.training.loop import Chunk, Rows, collect, n_chunks
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
        new = workspace["time"][chunk.recorded.first_row :, 0].tolist()
        assert new[0] == chunk.recorded.first_time
        assert len(new) == chunk.recorded.n_rows
        seen += new
        chunks.append(chunk)
    assert seen == list(range(13))
    assert chunks == [
        Chunk(1, 0, 12, 12, Rows(0, 0, 5), True, False),
        Chunk(2, 0, 24, 12, Rows(1, 5, 4), True, False),
        Chunk(3, 0, 36, 12, Rows(1, 9, 4), True, True),
    ]


@pytest.mark.parametrize("chunks_per_recording", [1, 2, 3, 7])
def test_several_chunks_may_share_a_recording(chunks_per_recording: int) -> None:
    workspace = Workspace()
    transitions, recorded = [], []
    for chunk in collect(
        TemporalAgent(Counter()),
        workspace,
        total_steps=60,
        batch_size=3,
        steps_per_chunk=4,
        chunks_per_recording=chunks_per_recording,
    ):
        times = workspace["time"][:, 0].tolist()
        transitions += times[chunk.first_row : -1]
        assert len(times) <= 4 * chunks_per_recording + 1
        rows = times[chunk.recorded.first_row :]
        assert (rows[0], len(rows)) == (chunk.recorded.first_time, chunk.recorded.n_rows)
        if chunk.is_cut_next or chunk.is_last:
            recorded += rows
    assert transitions == list(range(20))
    assert recorded == list(range(21))


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


@pytest.mark.parametrize("chunks_done", [1, 2, 3, 4])
@pytest.mark.parametrize("chunks_per_recording", [1, 2, 3])
def test_a_loop_that_goes_on_yields_the_chunks_that_were_left(chunks_per_recording: int, chunks_done: int) -> None:
    sizes = {"total_steps": 60, "batch_size": 3, "steps_per_chunk": 4, "chunks_per_recording": chunks_per_recording}
    workspace, counter, straight = Workspace(), Counter(), []
    kept = Workspace()
    for chunk in collect(TemporalAgent(counter), workspace, **sizes):
        straight.append((chunk, workspace["time"].tolist()))
        if chunk.number == chunks_done:
            kept = workspace.clone()
            if chunk.is_cut_next:
                kept.copy_n_last_steps(1)
    counter = Counter()
    counter.time = 4 * chunks_done
    going_on = collect(TemporalAgent(counter), kept, **sizes, chunks_done=chunks_done)
    found = [(chunk, kept["time"].tolist()) for chunk in going_on]
    assert found == straight[chunks_done:]


GOOD = {"total_steps": 12, "batch_size": 3, "steps_per_chunk": 2, "chunks_per_recording": 1, "chunks_done": 0}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [-1, 1.5, 1.0, True])
def test_a_loop_takes_whole_numbers_only(name: str, value: Any) -> None:
    least = 0 if name == "chunks_done" else 1
    kind = "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number, "
    with pytest.raises(ConfigurationError, match=f"^{name}={value}: must be {kind}at least {least}$"):
        next(collect(TemporalAgent(Counter()), Workspace(), **{**GOOD, name: value}))


def test_no_number_of_steps_is_rounded_down() -> None:
    assert n_chunks(2**60 + 1, batch_size=1, steps_per_chunk=1) == 2**60 + 1


def test_the_end_of_an_agents_own_iterator_is_an_error_that_names_the_agent() -> None:
    class Reader(Agent):
        def __init__(self) -> None:
            super().__init__("reader")
            self.lines = iter([1.0])

        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("line", t), torch.full((3,), next(self.lines)))

    with pytest.raises(UserCodeError, match=r"^StopIteration \(in Reader 'reader', test_loop\.py:\d+\)$"):
        next(collect(TemporalAgent(Reader()), Workspace(), total_steps=12, batch_size=3, steps_per_chunk=2))
