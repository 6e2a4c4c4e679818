"""What a remote agent and its parent say to each other; the tensors themselves lie in shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bbrl_exp.agents.remote.memory import Piece
from bbrl_exp.agents.remote.mirror import Facts

CALL, MORE, ROWS, SEED, GET_STATE, SET_STATE = b"C", b"M", b"R", b"D", b"G", b"T"
NEED = b"N"

Placed = list[tuple[str, int, Piece]]
SharedState = dict[str, Piece | bytes]


@dataclass(frozen=True)
class Setup:
    """What a process is started with.

    Attributes:
        agent: the agent, pickled.
        seed: of the global generators there.
        num_threads: of torch.
        dtype: torch's default one.
    """

    agent: bytes
    seed: int
    num_threads: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Call:
    """One call of the agent.

    Attributes:
        keywords: of the agent.
        variables: of the workspace: number of rows, shape and dtype of a row.
        rows: those that the agent is expected to read: variable, first time, rows ``[n, B, …]``.
        state: entries of the agent's ``state_dict`` that have changed.
        training: whether each module is in training mode; None for as before.
    """

    keywords: Mapping[str, Any]
    variables: Mapping[str, Facts]
    rows: Placed
    state: SharedState
    training: tuple[bool, ...] | None


@dataclass(frozen=True)
class ChangedVariable:
    """A :class:`~bbrl_exp.agents.remote.mirror.Change` whose rows lie in shared memory."""

    name: str
    is_new: bool
    n_kept: int
    rewritten: tuple[tuple[int, Piece], ...]
    appended: Piece

    @property
    def n_steps(self) -> int:
        """Number of rows after the call."""
        return self.n_kept + self.appended[1][0]

    @property
    def times(self) -> tuple[bool, int, int, tuple[int, ...]]:
        """What copies that share a batch must have in common."""
        return self.is_new, self.n_kept, self.n_steps, tuple(t for t, _ in self.rewritten)


@dataclass(frozen=True)
class Answer:
    """What a call did.

    Attributes:
        changes: the variables that were written or cut.
        removed: those that are gone.
        state: entries of the agent's ``state_dict`` that have changed.
    """

    changes: tuple[ChangedVariable, ...]
    removed: tuple[str, ...]
    state: SharedState


def set_training(agent: nn.Module, training: tuple[bool, ...]) -> None:
    """Puts every module in training mode or not, in the order of ``agent.modules()``."""
    for module, is_training in zip(agent.modules(), training, strict=True):
        module.training = is_training
