"""What all checks of an agent start from: a tape, training on it with and without learning, and fresh copies."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.testing.differences import differences
from bbrl_exp.testing.playing import Memory, members_without_environments, play, rows_of
from bbrl_exp.testing.subject import State, Subject, load, saved
from bbrl_exp.testing.tape import Tape, TapeEnvironments
from bbrl_exp.testing.training import Training, train

SEED = 0
_SHORT = 48  # rows
_FEWEST_CHUNKS, _N_UPDATES = 3, 2
_MOST_CHUNKS_ROWS = 1024  # rows after which no more chunks are played, in the hope of an update


@dataclass(frozen=True, eq=False)
class Trial:
    """An agent that is tried.

    Attributes:
        subject: builds it.
        tape: what its environments show, long enough for all chunks.
        memory: who remembers.
    """

    subject: Subject
    tape: Tape
    memory: Memory

    @classmethod
    def of(cls, subject: Subject) -> Trial:
        """Records real observations, and finds who remembers."""
        real = subject.real_rows()
        chunks = max(_FEWEST_CHUNKS, -(-_MOST_CHUNKS_ROWS // subject.steps_per_chunk))
        n_rows = chunks * subject.steps_per_chunk + 1
        tape = Tape.of(real, n_rows, subject.steps_per_chunk, SEED)
        graph, _ = subject.build(TapeEnvironments(tape))
        return cls(subject, tape, Memory.of(graph))

    @property
    def n_chunks(self) -> int:
        """How many chunks the tape has."""
        return (len(self.tape) - 1) // self.subject.steps_per_chunk

    @functools.cached_property
    def short(self) -> Tape:
        """The first rows of the tape."""
        return self.tape.first(_SHORT)

    @functools.cached_property
    def unchanged(self) -> Training:
        """A few chunks after which nothing is learned."""
        n_chunks = max(_FEWEST_CHUNKS, _SHORT // self.subject.steps_per_chunk)
        return train(self.subject, self.tape, n_chunks, learns=False)

    @functools.cached_property
    def learned(self) -> Training:
        """Chunks until a few updates are done."""
        return train(self.subject, self.tape, self.n_chunks, learns=True, n_updates=_N_UPDATES)

    @functools.cached_property
    def state(self) -> State:
        """What is saved after these updates."""
        return saved(self.learned.graph)

    @functools.cached_property
    def expected(self) -> dict[str, Tensor]:
        """All rows that agents built from scratch give on the first rows of the tape, in evaluation mode."""
        workspace = play(self.members(), self.short)
        return rows_of(workspace, workspace.keys())

    def members(self, state: State | None = None, *, training: bool = False) -> list[Agent]:
        """The members without the environments, built from scratch, with the parameters of ``state``."""
        return members_without_environments(self.graph(state, training=training))

    def graph(self, state: State | None = None, *, training: bool = False) -> Agent:
        """The graph, built from scratch, with the parameters of ``state``; None for those after the updates."""
        graph = copy.deepcopy(self._never_run)
        load(graph, self.state if state is None else state)
        return graph.train(training)

    @functools.cached_property
    def _never_run(self) -> Agent:
        return self.subject.build(TapeEnvironments(self.short))[0]

    def remembers(self) -> bool:
        """Whether anything is carried on, or depends on an earlier row of an episode."""
        if self.memory.variables:
            return True
        names = (*self.memory.written, *self.memory.actions)
        state, tape = saved(self._never_run), self.short
        late = tape.rows["env/timestep"] > 0
        first, again = (rows_of(play(self.members(state), tape), names) for _ in range(2))
        other = rows_of(play(self.members(state), tape.changed(~late, SEED)), names)
        return not differences(first, again, 0.0).where and bool(differences(first, other, 0.0, late).where)
