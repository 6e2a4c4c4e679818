"""Episodes that are longer than a chunk: transitions are kept until the episode that they belong to is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.data.transitions import Transitions


class UnfinishedEpisodes:
    """Transitions of B environments, each of which leaves once, with the whole of its episode.

    So no episode is preferred for being short, and none is seen in part, however the time is cut into chunks.

    Attributes:
        n_complete: episodes that are over and have not been taken.
    """

    def __init__(self) -> None:
        self._held: Transitions | None = None
        self.n_complete = 0

    def put(self, transitions: Transitions) -> None:
        """Adds the transitions ``[T', B, …]`` that follow those put before."""
        self.n_complete += int(_ends(transitions).sum())
        self._held = transitions if self._held is None else self._held.each(_appended, transitions)

    def take(self) -> tuple[Transitions, Tensor]:
        """All transitions held, ``[T', B, …]``, and which of them belong to complete episodes, bool ``[T', B]``.

        Those of complete episodes are held no longer.
        """
        held = self._held
        assert held is not None
        complete = held.valid & (_ends(held).flip(0).cumsum(0).flip(0) > 0)
        waiting = held.valid & ~complete
        rows = waiting.any(dim=1).nonzero()
        first = int(rows[0]) if len(rows) else len(waiting)
        # Copies, lest a few rows keep the memory of a whole chunk alive.
        self._held = replace(held, valid=waiting).each(lambda values: values[first:].clone())
        self.n_complete = 0
        return held, complete

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs, in tensors and plain Python."""
        return {"held": None if self._held is None else dict(vars(self._held)), "n_complete": self.n_complete}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        held: dict[str, Any] | None = state["held"]
        self._held = None
        if held is not None:  # version 0.1.0 saved groups of tensors as lists
            groups = {name: tuple(value) for name, value in held.items() if isinstance(value, list)}
            self._held = Transitions(**{**held, **groups})
        self.n_complete = state["n_complete"]


def _ends(transitions: Transitions) -> Tensor:
    return transitions.valid & (transitions.terminated | transitions.truncated)


def _appended(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first.to(second.device), second))  # loaded tensors are on the CPU
