"""What on-policy learners keep from a chunk to the next one: how likely the action was that is not taken yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class BehaviourLogProbs:
    """Log-probabilities of actions under the policy that chose them, chunk after chunk.

    The last row of a chunk is the first one of the next. Its action was chosen before the update between them, so that
    its log-probability is that of the policy before this update, and is kept until then. A chunk that begins with
    another row than the one before ended with is a new recording, all of whose actions the present policy chose.
    """

    def __init__(self) -> None:
        self._log_probs: Tensor | None = None
        self._row: tuple[Tensor, ...] = ()

    def of_chunk(self, log_probs: Tensor, leaves: Sequence[Tensor]) -> Tensor:
        """The log-probabilities with which the actions of the rows but the last were chosen, ``[T, B]``.

        Args:
            log_probs: of the actions of all rows under the policy as it is, unchanged since it chose all of them but
                those of a first row that is the last one of the chunk before, ``[T + 1, B]``.
            leaves: what was observed and chosen in these rows, by which a row is known again, each ``[T + 1, B, …]``.
        """
        chosen = log_probs[:-1]
        if self._log_probs is not None and self._is_kept_row([leaf[0] for leaf in leaves]):
            chosen = torch.cat((self._log_probs.to(log_probs.device)[None], log_probs[1:-1]))
        self._log_probs = log_probs[-1].clone()
        self._row = tuple(leaf[-1].clone() for leaf in leaves)
        return chosen

    def _is_kept_row(self, row: Sequence[Tensor]) -> bool:
        return len(row) == len(self._row) and all(
            found.shape == kept.shape and torch.equal(found, kept.to(found.device))
            for found, kept in zip(row, self._row, strict=True)
        )

    def state(self) -> dict[str, Any]:
        """What the next chunk needs."""
        return {"log_probs": self._log_probs, "row": list(self._row)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self._log_probs = state["log_probs"]
        self._row = tuple(state["row"])
