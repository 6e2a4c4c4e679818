"""How learners with a memory cut a chunk into sequences: their length, and the rows that bring a state up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bbrl_exp.arguments import Count, CountOrZero
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.parts.with_options import WithOptions
from bbrl_exp.policies.memory import Memory


class CutOptions(WithOptions, Learner):
    """Through how many steps the gradient flows."""

    sequence_length: Count | None = None
    """time steps of a sequence, a divisor of ``steps_per_chunk``; None, or more than these, for the whole chunk."""

    # Rows before a sequence that bring the state up to date: an option of learners that take several steps on a chunk.
    burn_in = 0

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses chunks that cannot be cut into whole sequences."""
        Cuts(steps_per_chunk, self.sequence_length, self.burn_in)


class BurnInOptions(CutOptions):
    """The same for learners that take several steps on a chunk, during which recorded states grow old."""

    burn_in: CountOrZero = 0
    """rows before a sequence, in the same chunk, that bring the recorded state up to date."""


class Cuts:
    """Cuts the T steps of a chunk of B environments into M sequences of L steps: the earliest of all of them first.

    Args:
        n_steps: T.
        sequence_length: L, a divisor of T; None, or more than T, for sequences as long as the chunk.
        burn_in: rows before a sequence that bring its state up to date, where it is not the chunk's first.

    Raises:
        ConfigurationError: a length that does not divide T, or a burn-in that is longer than a sequence.
    """

    def __init__(self, n_steps: int, sequence_length: int | None, burn_in: int = 0) -> None:
        self.n_steps = n_steps
        self.length = n_steps if sequence_length is None else min(sequence_length, n_steps)
        self.burn_in = burn_in
        if n_steps % self.length:
            raise ConfigurationError(
                f"sequence_length={sequence_length}: does not divide the {n_steps} steps of a chunk; must be a "
                "divisor, or null for all of them"
            )
        if burn_in and self.length == n_steps:
            raise ConfigurationError(
                f"burn_in={burn_in}: has no effect where a sequence is as long as the chunk; must be 0, or "
                f"sequence_length below the {n_steps} steps of a chunk"
            )
        if burn_in > self.length:
            raise ConfigurationError(f"burn_in={burn_in}: no more than sequence_length={self.length}")

    def cut(self, rows: Tensor) -> Tensor:
        """Of rows ``[T …, B, …]`` those of the sequences, ``[L, M, …]``; further rows are left out."""
        parts = rows[: self.n_steps].reshape(self.n_steps // self.length, self.length, *rows.shape[1:])
        return parts.transpose(0, 1).flatten(1, 2)

    def burn_in_of(self, rows: Sequence[Tensor], states: Tensor, starts: Tensor) -> BurnIn | None:
        """The rows before the sequences, of what a memory sees, its states and the starts, all ``[T …, B, …]``."""
        if not self.burn_in:
            return None
        before = [self._before(leaf) for leaf in rows]
        exists = torch.arange(self.n_steps // self.length, device=starts.device) > 0
        return BurnIn(
            tuple(before), self._before(states)[0], self._before(starts), exists.repeat_interleave(starts.shape[1])
        )

    def _before(self, rows: Tensor) -> Tensor:
        """The rows before each sequence, ``[burn_in, M, …]``; before the first ones any."""
        first = torch.arange(0, self.n_steps, self.length, device=rows.device)
        places = (first - self.burn_in + torch.arange(self.burn_in, device=rows.device)[:, None]).clamp_(min=0)
        return rows[places].flatten(1, 2)


@dataclass(frozen=True)
class BurnIn:
    """The b rows before each of M sequences, over which a memory brings the state up to date that was recorded.

    Attributes:
        rows: what the memory sees, one tensor ``[b, M, *shape]`` per variable.
        state: with which it processed the first of them, ``[M, S]``.
        starts: bool ``[b, M]``: an episode begins in that row.
        exists: bool ``[M]``: false where no rows are before a sequence, and those here mean nothing.
    """

    rows: tuple[Tensor, ...]
    state: Tensor
    starts: Tensor
    exists: Tensor

    def select(self, indexes: Tensor) -> BurnIn:
        """That of the sequences at ``indexes``, int64 ``[N]``."""
        return BurnIn(
            tuple(leaf.index_select(1, indexes) for leaf in self.rows),
            self.state.index_select(0, indexes),
            self.starts.index_select(1, indexes),
            self.exists.index_select(0, indexes),
        )

    @torch.no_grad()
    def state_after(self, memory: Memory, recorded: Tensor) -> Tensor:
        """The state with which ``memory``, as it is now, begins the sequences: ``recorded`` where there are no rows."""
        places = self.exists.nonzero().squeeze(1)
        if not len(places):
            return recorded
        rows = self.select(places)
        return recorded.index_copy(0, places, memory.unroll(rows.rows, rows.state, rows.starts)[1][-1])
