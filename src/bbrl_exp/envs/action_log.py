"""The actions of the episodes that are being played, so that these can be played once more. No torch here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.spec import LeafSpec

Lengths = Sequence[int] | NDArray[np.int64]

MOST_STEPS = 100_000
"""An episode of more steps cannot be played once more: its actions are not kept."""
_FEWEST_STEPS_TO_TRIM = 256


class ActionLog:
    """Keeps what the environments were given in the last steps.

    What belongs to the past is dropped: there are never many more steps than twice those of the longest episode that is
    being played, and never more than ``MOST_STEPS + 1``.

    Args:
        leaves: the leaves of the action.
        auto_reset: whether the steps of an environment's episode are the last ones, or, where all environments begin
            together, the first ones.

    Attributes:
        append: adds a step: where :attr:`takes_numbers`, the list of the B actions, else for each leaf an array
            ``[B, *shape]``; both are kept, not copied.
        takes_numbers: whether the action is one discrete number.
    """

    def __init__(self, leaves: Sequence[LeafSpec], auto_reset: bool) -> None:
        self.takes_numbers = len(leaves) == 1 and leaves[0].kind == "discrete"
        self._leaves = leaves
        self._auto_reset = auto_reset
        self._steps: deque[Sequence[Any]] = deque(maxlen=MOST_STEPS + 1)
        self.append = self._steps.append
        self._trim_at = _FEWEST_STEPS_TO_TRIM

    def clear(self) -> None:
        """All environments begin an episode."""
        self._steps.clear()

    def trim(self, lengths: Lengths) -> None:
        """Drops what is older than the episodes of ``lengths`` steps, if that is worth while."""
        if len(self._steps) >= self._trim_at:
            for _ in range(len(self._steps) - max(lengths) - 1):
                self._steps.popleft()
            self._trim_at = max(_FEWEST_STEPS_TO_TRIM, 2 * len(self._steps))

    def episodes(self, lengths: Lengths) -> list[list[NDArray[Any]]]:
        """For each environment the actions of its episode, ``[n_steps, *shape]`` a leaf.

        Args:
            lengths: the number of steps of each. Of an episode with more than ``MOST_STEPS`` there are none.
        """
        n_steps, count = len(self._steps), len(lengths)
        columns = [self._steps] if self.takes_numbers else list(zip(*self._steps, strict=True))
        blocks = [
            np.array(column, leaf.dtype).reshape(n_steps, count, *leaf.shape)
            for leaf, column in zip(self._leaves, columns or [()] * len(self._leaves), strict=True)
        ]
        episodes = []
        for index, length in enumerate(lengths):
            is_kept = (length if self._auto_reset else n_steps) <= MOST_STEPS
            first = n_steps - length if self._auto_reset else 0
            steps = slice(first, first + length) if is_kept else slice(0)
            episodes.append([block[steps, index] for block in blocks])
        return episodes

    def restore(self, episodes: Sequence[Sequence[NDArray[Any]]]) -> None:
        """Takes over what :meth:`episodes` gave."""
        lengths = [len(leaves[0]) for leaves in episodes]
        end = max(lengths)
        blocks = [np.zeros((end, len(episodes), *leaf.shape), leaf.dtype) for leaf in self._leaves]
        for index, (length, leaves) in enumerate(zip(lengths, episodes, strict=True)):
            first = end - length if self._auto_reset else 0
            for block, values in zip(blocks, leaves, strict=True):
                block[first : first + length, index] = values
        self._steps.clear()
        self._steps.extend(blocks[0].tolist() if self.takes_numbers else zip(*blocks, strict=True))
        self._trim_at = max(_FEWEST_STEPS_TO_TRIM, 2 * end)
