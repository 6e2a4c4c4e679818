"""The interaction loop: a graph of agents, unrolled chunk after chunk on one workspace; and its time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.arguments import AT_LEAST_1, COUNT_FROM_0
from bbrl_exp.workspace import Workspace


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of the workspace.

    Attributes:
        first_row: their first one.
        first_time: time since the beginning of the run of that row.
        n_rows: how many they are; they are the last ones of the workspace.
    """

    first_row: int
    first_time: int
    n_rows: int


@dataclass(frozen=True)
class Chunk:
    """What one pass of the loop has added to the workspace.

    Attributes:
        number: chunks done since the beginning of the run, this one included.
        first_row: the row from which transitions are new: the pairs (t, t + 1) from t = ``first_row`` on.
        env_steps: environment steps since the beginning of the run: rows after the first, times the batch size.
        new_steps: those of this chunk.
        recorded: the rows that were added since the recording was cut the last time, this chunk's included.
        is_cut_next: whether the next chunk begins by cutting the recording.
        is_last: whether there is no next chunk.
    """

    number: int
    first_row: int
    env_steps: int
    new_steps: int
    recorded: Rows
    is_cut_next: bool
    is_last: bool


@dataclass(frozen=True)
class Pass:
    """One pass of the loop, before it is done.

    Attributes:
        is_cut: whether the recording is cut first.
        first_new_row: the first row that the graph adds.
        n_new_rows: how many rows it adds.
        n_rows: rows of a whole recording.
        chunk: what has been added afterwards.
    """

    is_cut: bool
    first_new_row: int
    n_new_rows: int
    n_rows: int
    chunk: Chunk

    def prepare(self, workspace: Workspace) -> None:
        """Cuts the recording where that is due, and makes room."""
        if self.is_cut:
            workspace.copy_n_last_steps(1)
        workspace.reserve(self.n_rows)


def n_chunks(total_steps: int, batch_size: int, steps_per_chunk: int) -> int:
    """Number of chunks of a run: ``total_steps`` environment steps, rounded up to a whole chunk.

    Raises:
        ConfigurationError: an argument that is not a whole number of at least 1.
    """
    AT_LEAST_1.check(total_steps=total_steps, batch_size=batch_size, steps_per_chunk=steps_per_chunk)
    return -(-total_steps // (batch_size * steps_per_chunk))


def collect(
    agent: TemporalAgent,
    workspace: Workspace,
    *,
    total_steps: int,
    batch_size: int,
    steps_per_chunk: int,
    chunks_per_recording: int = 1,
    chunks_done: int = 0,
) -> Iterator[Chunk]:
    """Runs ``agent`` without gradients until ``total_steps`` environment steps are done, and yields after every chunk.

    A chunk adds ``steps_per_chunk`` rows (the first one of the run, one more: row 0). After every
    ``chunks_per_recording`` chunks the recording is cut: its last row becomes row 0, so that no transition is lost.

    Args:
        agent: the graph, unrolled over time.
        workspace: where it runs; what it held before is dropped by the environments' first reset.
        total_steps: environment steps, at least 1; rounded up to a whole chunk.
        batch_size: number B of environments.
        steps_per_chunk: time steps of a chunk.
        chunks_per_recording: chunks after which the recording is cut.
        chunks_done: chunks that were done before, for a loop that resumes: ``workspace`` holds the rows of the
            recording as they were after the last of them, or its last row where the recording is cut next.

    Raises:
        ConfigurationError: a number that is not whole, or below 1 (``chunks_done``: below 0).
    """
    AT_LEAST_1.check(chunks_per_recording=chunks_per_recording)
    COUNT_FROM_0.check(chunks_done=chunks_done)
    for due in passes(total_steps, batch_size, steps_per_chunk, chunks_per_recording, chunks_done):
        with torch.inference_mode():
            due.prepare(workspace)
            agent(workspace, t=due.first_new_row, n_steps=due.n_new_rows)
        yield due.chunk


def passes(
    total_steps: int, batch_size: int, steps_per_chunk: int, chunks_per_recording: int, chunks_done: int
) -> Iterator[Pass]:
    """The passes of the loop, for the arguments of :func:`collect`."""
    chunks = n_chunks(total_steps, batch_size, steps_per_chunk)
    for index in range(chunks_done, chunks):
        in_recording = index % chunks_per_recording
        first_row = in_recording * steps_per_chunk
        first_new_row = first_row + 1 if index > 0 else 0
        chunk = Chunk(
            number=index + 1,
            first_row=first_row,
            env_steps=(index + 1) * steps_per_chunk * batch_size,
            new_steps=steps_per_chunk * batch_size,
            recorded=recorded_rows(index + 1, steps_per_chunk, chunks_per_recording),
            is_cut_next=in_recording == chunks_per_recording - 1,
            is_last=index == chunks - 1,
        )
        yield Pass(
            is_cut=index > 0 and in_recording == 0,
            first_new_row=first_new_row,
            n_new_rows=first_row + steps_per_chunk + 1 - first_new_row,
            n_rows=steps_per_chunk * chunks_per_recording + 1,
            chunk=chunk,
        )


def recorded_rows(chunks_done: int, steps_per_chunk: int, chunks_per_recording: int) -> Rows:
    """The rows that were added, until ``chunks_done`` chunks (1 or more) are done, since the recording was cut."""
    in_recording = (chunks_done - 1) % chunks_per_recording
    is_first = chunks_done <= chunks_per_recording
    return Rows(
        first_row=0 if is_first else 1,
        first_time=(chunks_done - 1 - in_recording) * steps_per_chunk + (0 if is_first else 1),
        n_rows=(in_recording + 1) * steps_per_chunk + (1 if is_first else 0),
    )


class Stopwatch:
    """Seconds since it was made, without those spent in pauses.

    Attributes:
        paused: seconds spent in pauses.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._begun = time.perf_counter() - seconds
        self.paused = 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self._begun - self.paused

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Stops the clock while the block runs."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.paused += time.perf_counter() - begun
