"""The actions of the episodes that are being played, so that these can be played once more. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.spec import LeafSpec

_FEWEST_STEPS_TO_TRIM = 256


class ActionLog:
    """Keeps what each environment was given since its episode began.

    What belongs to the past is dropped: there are never many more steps than twice those of the longest episode that is
    being played.

    Args:
        leaves: the leaves of the action.
        count: number of environments.

    Attributes:
        append: adds a step: where :attr:`takes_numbers`, the list of the B actions, else for each leaf an array
            ``[B, *shape]``; both are kept, not copied.
        takes_numbers: whether the action is one discrete number.
    """

    def __init__(self, leaves: Sequence[LeafSpec], count: int) -> None:
        self.takes_numbers = len(leaves) == 1 and leaves[0].kind == "discrete"
        self._leaves = leaves
        self._steps: list[Sequence[Any]] = []
        self.append = self._steps.append
        self._trim_at = _FEWEST_STEPS_TO_TRIM
        self._first = [0] * count
        self._stop: list[int | None] = [0] * count

    def begin(self, index: int) -> None:
        """The next step is the first one of an episode of environment ``index``."""
        self._first[index] = len(self._steps)
        self._stop[index] = None
        if len(self._steps) >= self._trim_at:
            self._trim()

    def end(self, index: int) -> None:
        """The step before was the last one of an episode of environment ``index``."""
        self._stop[index] = len(self._steps)

    def episodes(self) -> list[list[NDArray[Any]]]:
        """For each environment the actions of its episode, ``[n_steps, *shape]`` a leaf."""
        shape = (len(self._steps), len(self._first))
        columns = [self._steps] if self.takes_numbers else list(zip(*self._steps, strict=True))
        blocks = [
            np.array(column, leaf.dtype).reshape(*shape, *leaf.shape)
            for leaf, column in zip(self._leaves, columns or [()] * len(self._leaves), strict=True)
        ]
        return [
            [block[first:stop, index] for block in blocks]
            for index, (first, stop) in enumerate(zip(self._first, self._stop, strict=True))
        ]

    def restore(self, episodes: Sequence[Sequence[NDArray[Any]]], is_over: Sequence[bool]) -> None:
        """Takes over other episodes.

        Args:
            episodes: what :meth:`episodes` gives.
            is_over: whether each has ended.
        """
        lengths = [len(leaves[0]) for leaves in episodes]
        end = max(lengths)
        self._first = [end - length for length in lengths]
        self._stop = [end if over else None for over in is_over]
        blocks = [np.zeros((end, len(episodes), *leaf.shape), leaf.dtype) for leaf in self._leaves]
        for index, (first, leaves) in enumerate(zip(self._first, episodes, strict=True)):
            for block, values in zip(blocks, leaves, strict=True):
                block[first:, index] = values
        steps: Any = blocks[0].tolist() if self.takes_numbers else zip(*blocks, strict=True)
        self._steps[:] = steps
        self._trim_at = max(_FEWEST_STEPS_TO_TRIM, 2 * end)

    def _trim(self) -> None:
        past = min(self._first)
        del self._steps[:past]
        self._first = [position - past for position in self._first]
        self._stop = [None if stop is None else stop - past for stop in self._stop]
        self._trim_at = max(_FEWEST_STEPS_TO_TRIM, 2 * len(self._steps))
