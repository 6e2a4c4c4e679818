"""What a learner is: it is shown the workspace after every chunk, and changes its agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from bbrl_exp.arguments import check_fields
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.learners.parts.state import SavesAttributes, replay_buffers
from bbrl_exp.workspace import Workspace

Metrics = Mapping[str, float | Tensor]


@dataclass(frozen=True)
class Progress:
    """How far a run is, and which rows of the workspace are new to the learner.

    Attributes:
        first_row: the row from which transitions are new: the pairs (t, t + 1) from t = ``first_row`` to the last row.
        env_steps: environment steps done since the beginning of the run.
        total_steps: environment steps that the run will have.
        new_steps: environment steps of the new rows, which are among ``env_steps``.
    """

    first_row: int
    env_steps: int
    total_steps: int
    new_steps: int

    @property
    def fraction(self) -> float:
        """The part of the run that is done, between 0 and 1."""
        return min(self.env_steps / self.total_steps, 1.0)

    @property
    def remaining(self) -> float:
        """The part of the run that was to come when the new rows began: 1 for the first chunk, above 0 for the last.

        What anneals to zero is multiplied with it, so that every chunk is learned from.
        """
        return 1.0 - min((self.env_steps - self.new_steps) / self.total_steps, 1.0)

    def updates_due(self, learning_starts: int, updates_per_step: float) -> int:
        """How many updates there are to be by now: so many an environment step after the first ``learning_starts``."""
        return max(int((self.env_steps - learning_starts) * updates_per_step), 0)


class Learner(SavesAttributes):
    """Holds the agents that it changes, and whatever else an algorithm needs: optimizers, targets, a replay buffer.

    All that it remembers is in its ``state_dict``: parameters, buffers, and what is found among its attributes, which
    are optimizers, random generators, numbers, collections of plain Python and objects with ``state`` and
    ``load_state``. Whatever else a learner remembers, a list of tensors for instance, it adds in ``get_extra_state``
    and ``set_extra_state``.

    Attributes:
        schedules: options that make it depend on the length of the run; a run with any cannot be made longer.
        needs_episodes: whether it learns from whole episodes only; a run in which none ends has failed.
    """

    schedules: tuple[str, ...] = ()
    needs_episodes = False

    def __post_init__(self) -> None:
        """Where the arguments are the fields of a dataclass: refuses those out of the range that their type gives."""
        check_fields(self)

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

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses chunks that it cannot learn from; a run asks before it makes anything. This one learns from any.

        Args:
            steps_per_chunk: time steps of a chunk.
            batch_size: number B of environments.

        Raises:
            ConfigurationError: begins with the name of a constructor's argument, ``sequence_length=5: …``.
        """

    def awaits(self) -> str | None:
        """What it still waits for where it has made no update, such as ``"8 whole episodes"``; None where it has.

        A run asks at its end, and prints it.
        """
        return None

    def begin_from_loaded_parameters(self) -> None:
        """Called once the run ``init_from`` has given its parameters and buffers, before anything is learned.

        The agents have all of them, the learner those attributes of its own that fit as a whole. This does nothing; a
        learner with buffers that belong to a moment of the other run begins them anew here.
        """

    def replay_buffers(self) -> dict[str, ReplayBuffer]:
        """The replay buffers among the attributes, by name; their rows are kept apart from the rest of the state."""
        return replay_buffers(self)
