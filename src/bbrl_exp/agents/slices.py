"""A part of a batch, for copies of an agent that share the batch among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class BatchSlice:
    """The batch elements ``first`` … ``first + count - 1`` of ``whole``."""

    first: int
    count: int
    whole: int


@runtime_checkable
class KnowsItsSlice(Protocol):
    """A module whose random numbers or counters are those of a whole batch, and that can work for a part of one."""

    def take_slice(self, part: BatchSlice) -> None:
        """From now on, in this copy, batch element 0 is the element ``part.first`` of the whole batch.

        What is drawn for the whole batch is drawn as before, and the part of it used: the same bits, whatever the
        number of copies.
        """
