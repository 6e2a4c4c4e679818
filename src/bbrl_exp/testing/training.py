"""Training on a tape, chunk by chunk, with all that is needed to compute it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.errors import BbrlExpError, described
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.learners.parts.state import prepare_state
from bbrl_exp.testing.cells import Call, cells_of, fingerprint, watched
from bbrl_exp.testing.differences import Rows
from bbrl_exp.testing.playing import rows_of
from bbrl_exp.testing.subject import State, Subject, saved
from bbrl_exp.testing.tape import Tape, TapeEnvironments
from bbrl_exp.training.loop import Chunk, collect
from bbrl_exp.workspace import Workspace

After = Callable[[TemporalAgent], None]


@dataclass(frozen=True, eq=False)
class Played:
    """A chunk.

    Attributes:
        first_time: time since the beginning of the run of its row 0.
        state: the graph that acted in all rows after row 0.
        rows: of all variables, row 0 included, copied before the update, ``[L + 1, B, …]``.
        parameters: their fingerprint before the update.
        calls: of ``unroll`` in the update.
        updated: whether the update has changed parameters.
    """

    first_time: int
    state: State
    rows: Rows
    parameters: float
    calls: list[Call]
    updated: bool


@dataclass(frozen=True, eq=False)
class Training:
    """Chunks that were played and learned from.

    Attributes:
        graph: as it is after them.
        learner: likewise.
        chunks: in their order.
    """

    graph: TemporalAgent
    learner: Learner | None
    chunks: list[Played] = field(default_factory=list)

    @property
    def rows(self) -> dict[str, Tensor]:
        """All rows, as they were when they were played."""
        return rows_of_chunks(self.chunks)

    @property
    def n_updates(self) -> int:
        """Updates that have changed parameters."""
        return sum(chunk.updated for chunk in self.chunks)


def rows_of_chunks(chunks: Sequence[Played]) -> dict[str, Tensor]:
    """All rows of chunks that follow each other."""
    first, *others = [chunk.rows for chunk in chunks]
    return {name: torch.cat([value, *(rows[name][1:] for rows in others)]) for name, value in first.items()}


def train(
    subject: Subject,
    tape: Tape,
    n_chunks: int,
    *,
    learns: bool,
    n_updates: int | None = None,
    after: After | None = None,
) -> Training:
    """Plays chunks as a run does.

    Args:
        subject: built from scratch.
        tape: what the environments show.
        n_chunks: how many chunks at most.
        learns: whether the learner learns from them.
        n_updates: with ``learns``, after how many updates that is enough.
        after: called after each chunk and its update.
    """
    graph, learner = subject.build(TapeEnvironments(tape))
    learner = learner if learns else None
    modules = [module for module in (graph, learner) if module is not None]
    if learner is not None:
        learner.check_chunks(subject.steps_per_chunk, tape.starts.shape[1])
        learner.start_schedules(subject.schedule_steps or subject.total_steps)
        prepare_state(learner)
    cells = cells_of(graph, learner)
    training, workspace, batch_size = Training(graph, learner), Workspace(), tape.starts.shape[1]
    state = saved(graph)
    for chunk in collect(
        graph,
        workspace,
        total_steps=n_chunks * subject.steps_per_chunk * batch_size,
        batch_size=batch_size,
        steps_per_chunk=subject.steps_per_chunk,
        chunks_per_recording=subject.chunks_per_recording,
    ):
        rows = rows_of(workspace, workspace.keys(), chunk.first_row)
        before, calls = fingerprint(modules), list[Call]()
        if learner is not None:
            with watched(cells, modules) as calls:
                _learn(learner, workspace, _progress(subject, chunk))
        first_time = (chunk.number - 1) * subject.steps_per_chunk
        training.chunks.append(Played(first_time, state, rows, before, calls, fingerprint(modules) != before))
        if after is not None:
            after(graph)
        if training.n_updates == n_updates:
            break
        state = saved(graph) if learner is not None else state
    return training


def _learn(learner: Learner, workspace: Workspace, progress: Progress) -> None:
    try:
        learner.learn_from(workspace, progress)
    except Exception as error:
        if isinstance(error, BbrlExpError):
            raise
        message = f"{type(learner).__name__} fails after {progress.env_steps} environment steps: {described(error)}"
        raise BbrlExpError(message) from error


def _progress(subject: Subject, chunk: Chunk) -> Progress:
    return Progress(chunk.first_row, chunk.env_steps, subject.total_steps, chunk.new_steps, subject.schedule_steps)
