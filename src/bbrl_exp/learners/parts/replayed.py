"""Experience replay as off-policy learners use it: new transitions go in, batches come out, so many a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AboveZeroToAMillion, Count, CountOrZero, FromZeroToOne, check_fields
from bbrl_exp.data.replay import Batch, ReplayBuffer
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.options import ReturnOptions
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace

Drawn = TypeVar("Drawn")


class ReplayOptions(ReturnOptions):
    """How much is kept for replay, and how often something is learned from it."""

    discount: FromZeroToOne = 0.99  # not as a schedule: what the buffer sums up is discounted already
    replay_capacity: Count = 1_000_000
    """transitions that are kept."""
    batch_size: Count = 256
    """transitions per update."""
    learning_starts: CountOrZero = 1000
    """environment steps before the first update."""
    updates_per_step: AboveZeroToAMillion = 1.0
    """updates per environment step after that, fractions included."""
    seed: int = 0
    """root seed of the draws from the buffer, and of all other noise in the updates."""

    def updates_due(self, progress: Progress) -> int:
        """How many updates there are to be by now."""
        return progress.updates_due(self.learning_starts, self.updates_per_step)

    def first_update(self, n_updates: int) -> str | None:
        """What the first update awaits, where there were no ``n_updates``; see :meth:`Learner.awaits`."""
        return None if n_updates else f"more environment steps ({self.what_delays_updates()})"

    def what_delays_updates(self) -> str:
        """The options that say when the first update is due."""
        return f"learning_starts={self.learning_starts}, updates_per_step={self.updates_per_step}"

    def check_batch_size(self) -> None:
        """Refuses a batch that is larger than the buffer."""
        if self.batch_size > self.replay_capacity:
            raise ConfigurationError(
                f"batch_size={self.batch_size}: no more than replay_capacity={self.replay_capacity}"
            )


class Replayed(ABC, Generic[Drawn]):
    """Keeps what a policy did, and deals out as many batches as are due.

    After ``env_steps`` environment steps there have been ⌊(env_steps - learning_starts) · updates_per_step⌋ of them,
    however many environments there are and however long the chunks.

    Args:
        buffer: where rows are kept.
        options: sizes and numbers; a learner that has them hands over itself.

    Attributes:
        n_updates: batches dealt out so far.
        buffer: as above.
    """

    def __init__(self, buffer: ReplayBuffer, options: ReplayOptions) -> None:
        self.buffer = buffer
        self._options = options
        self._generator = numpy_generator(options.seed, "learner", "replay")
        self.n_updates = 0

    @abstractmethod
    def can_draw(self) -> bool:
        """Whether enough is kept for a batch."""

    @abstractmethod
    def draw(self) -> Drawn:
        """One batch."""

    def take(self, workspace: Workspace, progress: Progress) -> Iterator[Drawn]:
        """Keeps the new transitions of ``workspace``, then gives the batches that are due, one by one."""
        self.buffer.put(workspace, progress.first_row)
        due = self._options.updates_due(progress)
        while self.n_updates < due and self.can_draw():
            self.n_updates += 1
            yield self.draw()

    def state(self) -> dict[str, Any]:
        """Buffer, random stream and counter, as tensors and plain Python."""
        return {
            "buffer": self.buffer.state(),
            "generator": self._generator.bit_generator.state,
            "n_updates": self.n_updates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self.buffer.load_state(state["buffer"])
        self._generator.bit_generator.state = state["generator"]
        self.n_updates = state["n_updates"]


class ReplayedBatches(Replayed[Batch]):
    """Batches of transitions in any order.

    Args:
        policy: whose observations and actions are kept.
        options: sizes and numbers; a learner that has them hands over itself.

    Raises:
        ConfigurationError: a value out of its range.
    """

    def __init__(self, policy: Agent, options: ReplayOptions) -> None:
        check_fields(options)
        options.check_batch_size()
        buffer = ReplayBuffer(
            options.replay_capacity,
            policy.reads or (),
            policy.writes or (),
            discount=options.discount,
            reward=options.reward,
        )
        super().__init__(buffer, options)

    def can_draw(self) -> bool:
        return len(self.buffer) > 0

    def draw(self) -> Batch:
        return self.buffer.sample(self._options.batch_size, self._generator)
