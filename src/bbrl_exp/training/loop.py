"""The interaction loop: a graph of agents, unrolled chunk after chunk on one workspace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.workspace import Workspace


@dataclass(frozen=True)
class Chunk:
    """What one pass of the loop has added to the workspace.

    Attributes:
        first_new_row: the first row that the chunk before did not have: 0 in the first chunk, 1 later.
        first_time: time since the beginning of the run of that row.
        n_new_rows: number of new rows; they are the last ones of the workspace.
        env_steps: environment steps since the beginning of the run: rows after the first, times the batch size.
    """

    first_new_row: int
    first_time: int
    n_new_rows: int
    env_steps: int


def n_chunks(total_steps: int, batch_size: int, steps_per_chunk: int) -> int:
    """Number of chunks of a run: ``total_steps`` environment steps, rounded up to a whole chunk."""
    return math.ceil(total_steps / (batch_size * steps_per_chunk))


def collect(
    agent: TemporalAgent, workspace: Workspace, *, total_steps: int, batch_size: int, steps_per_chunk: int
) -> Iterator[Chunk]:
    """Runs ``agent`` without gradients until ``total_steps`` environment steps are done, and yields after every chunk.

    Every chunk leaves ``steps_per_chunk + 1`` rows in the workspace: the last row of the chunk before and the new ones,
    so that no transition falls between two chunks.

    Args:
        agent: the graph, unrolled over time.
        workspace: where it runs; what it held before is dropped by the environments' first reset.
        total_steps: environment steps, at least 1; rounded up to a whole chunk.
        batch_size: number B of environments.
        steps_per_chunk: time steps of a chunk.
    """
    for index in range(n_chunks(total_steps, batch_size, steps_per_chunk)):
        first_new_row = 0 if index == 0 else 1
        with torch.inference_mode():
            if index > 0:
                workspace.copy_n_last_steps(1)
            agent(workspace, t=first_new_row, n_steps=steps_per_chunk + 1 - first_new_row)
        yield Chunk(
            first_new_row=first_new_row,
            first_time=index * steps_per_chunk + first_new_row,
            n_new_rows=steps_per_chunk + 1 - first_new_row,
            env_steps=(index + 1) * steps_per_chunk * batch_size,
        )
