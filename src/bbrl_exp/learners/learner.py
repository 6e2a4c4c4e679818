"""What a learner is: it is shown the workspace after every chunk, and changes its agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from bbrl_exp.workspace import Workspace

Metrics = Mapping[str, float | Tensor]


@dataclass(frozen=True)
class Progress:
    """How far a run is, and which rows of the workspace are new to the learner.

    Attributes:
        first_row: the row from which transitions are new: the pairs (t, t + 1) from t = ``first_row`` to the last row.
        env_steps: environment steps done since the beginning of the run.
        total_steps: environment steps that the run will have.
    """

    first_row: int
    env_steps: int
    total_steps: int

    @property
    def fraction(self) -> float:
        """The part of the run that is done, between 0 and 1."""
        return min(self.env_steps / self.total_steps, 1.0)


class Learner(nn.Module):
    """Holds the agents that it changes, and whatever else an algorithm needs: optimizers, targets, a replay buffer.

    Parameters and buffers are its ``state_dict``; the rest of its state (optimizers, counters, random streams) is its
    extra state, made of tensors and plain Python.
    """

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        """Learns from the new rows.

        Args:
            workspace: the recording, with ``progress.first_row`` as the first row of the first new transition.
            progress: how far the run is.

        Returns:
            Metrics by name, ``losses/…`` and ``learner/…``: numbers, or detached tensors without dimensions. Empty
            where nothing was learned.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define update")
