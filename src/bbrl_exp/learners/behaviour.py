"""What on-policy learners keep from a chunk to the next one: how likely the action was that is not taken yet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class BehaviourLogProbs:
    """Log-probabilities of actions under the policy that chose them, chunk after chunk.

    The last row of a chunk is the first one of the next. Its action was chosen before the update between them, so that
    its log-probability is that of the policy before this update, and is kept until then.
    """

    def __init__(self) -> None:
        self._of_last_row: Tensor | None = None

    def of_chunk(self, log_probs: Tensor) -> Tensor:
        """The log-probabilities with which the actions of the rows but the last were chosen, ``[T, B]``.

        Args:
            log_probs: of the actions of all rows under the policy as it is, unchanged since it chose all of them but
                those of the first row; ``[T + 1, B]``, overwritten in the first row.
        """
        if self._of_last_row is not None:
            log_probs[0] = self._of_last_row
        self._of_last_row = log_probs[-1].clone()
        return log_probs[:-1]

    def state(self) -> dict[str, Any]:
        """What the next chunk needs."""
        return {"of_last_row": self._of_last_row}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        of_last_row = state["of_last_row"]
        self._of_last_row = None if of_last_row is None else torch.as_tensor(of_last_row)
