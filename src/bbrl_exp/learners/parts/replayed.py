"""Experience replay as off-policy learners use it: new transitions go in, batches come out, so many a step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import ABOVE_0, AT_LEAST_0, AT_LEAST_1, FROM_0_TO_1
from bbrl_exp.data.replay import Batch, ReplayBuffer
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Progress
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace


class ReplayedBatches:
    """Keeps the transitions of a policy, and deals out as many batches as are due.

    After ``env_steps`` environment steps there have been ⌊(env_steps - learning_starts) · updates_per_step⌋ of them,
    however many environments there are and however long the chunks.

    Args:
        policy: whose observations and actions are kept.
        capacity: transitions that are kept.
        batch_size: transitions a batch.
        learning_starts: environment steps before the first batch.
        updates_per_step: batches per environment step after that, fractions included.
        discount: γ.
        reward: variable of the rewards.
        seed: root seed of the draws.

    Raises:
        ConfigurationError: a value out of its range.

    Attributes:
        n_updates: batches dealt out so far.
        buffer: where the transitions are.
    """

    def __init__(
        self,
        policy: Agent,
        *,
        capacity: int,
        batch_size: int,
        learning_starts: int,
        updates_per_step: float,
        discount: float,
        reward: str,
        seed: int,
    ) -> None:
        AT_LEAST_1.check(replay_capacity=capacity, batch_size=batch_size)
        if batch_size > capacity:
            raise ConfigurationError(f"batch_size={batch_size}: no more than replay_capacity={capacity}")
        AT_LEAST_0.check(learning_starts=learning_starts)
        ABOVE_0.check(updates_per_step=updates_per_step)
        FROM_0_TO_1.check(discount=discount)
        self.reads = (
            *(policy.reads or ()),
            *(policy.writes or ()),
            reward,
            "env/terminated",
            "env/truncated",
            "env/done",
        )
        self.buffer = ReplayBuffer(capacity, policy.reads or (), policy.writes or (), discount=discount, reward=reward)
        self._batch_size = batch_size
        self._learning_starts = learning_starts
        self._updates_per_step = updates_per_step
        self._generator = numpy_generator(seed, "learner", "replay")
        self.n_updates = 0

    def take(self, workspace: Workspace, progress: Progress) -> Iterator[Batch]:
        """Keeps the new transitions of ``workspace``, then gives the batches that are due, one by one."""
        self.buffer.put(workspace, progress.first_row)
        due = progress.updates_due(self._learning_starts, self._updates_per_step)
        while self.n_updates < due and len(self.buffer):
            self.n_updates += 1
            yield self.buffer.sample(self._batch_size, self._generator)

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
