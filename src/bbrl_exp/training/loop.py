"""The interaction loop: a graph of agents, unrolled chunk after chunk on one workspace; its metrics and its time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.arguments import AT_LEAST_1, COUNT_FROM_0
from bbrl_exp.errors import DivergedError
from bbrl_exp.learners.learner import Metrics
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
    chunks = n_chunks(total_steps, batch_size, steps_per_chunk)
    for index in range(chunks_done, chunks):
        in_recording = index % chunks_per_recording
        first_row = in_recording * steps_per_chunk
        first_new_row = first_row + 1 if index > 0 else 0
        last_row = first_row + steps_per_chunk
        with torch.inference_mode():
            if index > 0 and in_recording == 0:
                workspace.copy_n_last_steps(1)
            workspace.reserve(steps_per_chunk * chunks_per_recording + 1)
            agent(workspace, t=first_new_row, n_steps=last_row + 1 - first_new_row)
        yield Chunk(
            number=index + 1,
            first_row=first_row,
            env_steps=(index + 1) * steps_per_chunk * batch_size,
            new_steps=steps_per_chunk * batch_size,
            recorded=recorded_rows(index + 1, steps_per_chunk, chunks_per_recording),
            is_cut_next=in_recording == chunks_per_recording - 1,
            is_last=index == chunks - 1,
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


class NewestMetrics:
    """Keeps the newest value of each metric, for a record every so many environment steps."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._next_record = 0
        self._newest: Metrics = {}

    def add(self, metrics: Metrics) -> None:
        """Takes the metrics of an update; those that it does not report stay as they were.

        Raises:
            TypeError: they are no mapping from names to numbers and tensors of one element; the message names which.
        """
        if not isinstance(metrics, Mapping):
            raise TypeError(f"update gave {type(metrics).__name__}: must be a mapping of metrics, {{}} for none")
        for name, value in metrics.items():
            if not _is_number(value):
                raise TypeError(f"metric '{name}' is {_kind_of(value)}: must be a number or a tensor of one element")
        self._newest = {**self._newest, **metrics}

    @property
    def has_any(self) -> bool:
        """Whether there is something to record."""
        return bool(self._newest)

    def due(self, env_steps: int) -> bool:
        """Whether it is time for a record and there is something to record."""
        return env_steps >= self._next_record and bool(self._newest)

    def take(self, env_steps: int) -> dict[str, float]:
        """The newest metrics as numbers; they are forgotten here.

        Raises:
            DivergedError: one of them is no number; the message names it.
        """
        self._next_record = (env_steps // self._every + 1) * self._every
        newest, self._newest = self._newest, {}
        return finite_metrics(newest, env_steps)

    def state(self) -> dict[str, Any]:
        """When the next record is due, and what there is for it."""
        return {"next_record": self._next_record, "newest": dict(self._newest)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self._next_record = state["next_record"]
        self._newest = state["newest"]


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.size == 1)


def _kind_of(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"[:80]


def finite_metrics(metrics: Metrics, env_steps: int) -> dict[str, float]:
    """Metrics as numbers, brought from their device in one transfer.

    Raises:
        DivergedError: one of them is no number; the message names it.
    """
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
    values = (
        torch.stack([value.detach().double().reshape(()) for value in tensors.values()]).tolist() if tensors else []
    )
    numbers = {name: float(value) for name, value in {**metrics, **dict(zip(tensors, values, strict=True))}.items()}
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise DivergedError(f"metric '{name}' is {number} after {env_steps:,} environment steps")
    return numbers


class Stopwatch:
    """Seconds since it was made, without those spent in pauses."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._begun = time.perf_counter() - seconds
        self._paused = 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self._begun - self._paused

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Stands still while the block runs."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - begun
