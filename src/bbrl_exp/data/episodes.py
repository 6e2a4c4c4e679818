"""Episodes that are longer than a chunk: transitions are kept until the episode that they belong to is over."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.data.transitions import Transitions

_GROUPS = ("observations", "actions", "next_observations")


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
        self._held = transitions if self._held is None else _joined(self._held, transitions)

    def take(self) -> tuple[Transitions, Tensor]:
        """All transitions held, ``[T', B, …]``, and which of them belong to episodes that are over, bool ``[T', B]``.

        The latter leave.
        """
        held = self._held
        assert held is not None
        complete = held.valid & (_ends(held).flip(0).cumsum(0).flip(0) > 0)
        waiting = held.valid & ~complete
        rows = waiting.any(dim=1).nonzero()
        first = int(rows[0]) if len(rows) else len(waiting)
        self._held = _from_row(replace(held, valid=waiting), first)
        self.n_complete = 0
        return held, complete

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs, in tensors and plain Python."""
        held = None
        if self._held is not None:
            values = {field.name: getattr(self._held, field.name) for field in fields(Transitions)}
            held = {name: list(value) if name in _GROUPS else value for name, value in values.items()}
        return {"held": held, "n_complete": self.n_complete}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        held = state["held"]
        self._held = None
        if held is not None:
            values: dict[str, Any] = {name: tuple(value) if name in _GROUPS else value for name, value in held.items()}
            self._held = Transitions(**values)
        self.n_complete = state["n_complete"]


def _ends(transitions: Transitions) -> Tensor:
    return transitions.valid & (transitions.terminated | transitions.truncated)


def _joined(first: Transitions, second: Transitions) -> Transitions:
    values: dict[str, Any] = {}
    for field in fields(Transitions):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if field.name in _GROUPS:
            values[field.name] = tuple(_appended(*pair) for pair in zip(one, other, strict=True))
        else:
            values[field.name] = _appended(one, other)
    return Transitions(**values)


def _appended(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first.to(second.device), second))  # what was loaded is on the CPU


def _from_row(transitions: Transitions, first: int) -> Transitions:
    values: dict[str, Any] = {}
    for field in fields(Transitions):
        value = getattr(transitions, field.name)
        # Copies, lest a few rows keep the memory of a whole chunk alive.
        is_group = field.name in _GROUPS
        values[field.name] = tuple(leaf[first:].clone() for leaf in value) if is_group else value[first:].clone()
    return Transitions(**values)
