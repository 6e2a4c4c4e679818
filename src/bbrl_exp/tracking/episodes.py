"""Which episodes ended in the rows of a workspace."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EPISODES_IN_MEAN = 100


class FinishedEpisodes(NamedTuple):
    """N finished episodes, ordered by time, then by environment; four arrays ``[N]``."""

    time: NDArray[np.int64]
    environment: NDArray[np.int64]
    total_reward: NDArray[np.float64]
    length: NDArray[np.int64]


def finished_episodes(
    done: NDArray[np.bool_],
    cumulated_reward: NDArray[Any],
    timestep: NDArray[Any],
    first_new_row: int,
) -> FinishedEpisodes:
    """The episodes that ended in the rows from ``first_new_row`` on, each of them once.

    An episode ends in the row in which ``done`` becomes true. The repeated last row of an environment that is frozen
    until the others are done (without automatic reset) is no further episode, also not in the next chunk.

    The arguments are those variables of the whole chunk, ``[T, B]``; ``time`` counts its rows. ``first_new_row`` is 0
    in a recording's first chunk, otherwise the number of rows kept from the chunk before.
    """
    ends = done[first_new_row:].copy()
    if first_new_row > 0:
        ends &= ~done[first_new_row - 1 : -1]
    else:
        ends[1:] &= ~done[:-1]
    time, environment = np.nonzero(ends)
    time = time + first_new_row
    return FinishedEpisodes(
        time=time,
        environment=environment,
        total_reward=cumulated_reward[time, environment].astype(np.float64),
        length=timestep[time, environment].astype(np.int64),
    )


class EpisodeCount:
    """How many episodes have finished, and what the last ones returned."""

    def __init__(self) -> None:
        self.finished = 0
        self._last_returns: deque[float] = deque(maxlen=EPISODES_IN_MEAN)

    def add(self, episodes: FinishedEpisodes) -> None:
        """Counts more episodes."""
        self.finished += len(episodes.total_reward)
        self._last_returns.extend(episodes.total_reward.tolist())

    def state(self) -> dict[str, Any]:
        """The count and the last returns."""
        return {"finished": self.finished, "last_returns": list(self._last_returns)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self.finished = state["finished"]
        self._last_returns = deque(state["last_returns"], maxlen=EPISODES_IN_MEAN)

    @property
    def return_mean(self) -> float | None:
        """Mean return of the last episodes; None before the first end."""
        return math.fsum(self._last_returns) / len(self._last_returns) if self._last_returns else None
