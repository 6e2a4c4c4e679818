"""Replay for learners with a memory: sequences of rows, with the states that the memories had where they begin."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.arguments import Count, CountOrZero
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.data.transitions import Transitions, align
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.parts.replayed import Replayed, ReplayOptions
from bbrl_exp.policies.memory import INITIAL_STATE, Memory
from bbrl_exp.workspace import Workspace


class SequenceOptions(ReplayOptions):
    """What the sequences of a replay buffer are, and how a memory is trained on them."""

    burn_in: CountOrZero = 4
    """rows of a sequence that only bring the state up to date."""
    sequence_length: Count = 16
    """transitions of a sequence that are learned from, and steps through which the gradient flows."""
    batch_size: Count = 16
    """sequences per update."""

    @property
    def sequence_rows(self) -> int:
        """Rows of a sequence: those of the burn-in, and one more than transitions."""
        return self.burn_in + self.sequence_length + 1

    def sequence_buffer(self, memories: Sequence[Memory], actions: Sequence[str]) -> ReplayBuffer:
        """A buffer for what the memories see, the actions that are chosen, and the states of the memories."""
        return ReplayBuffer(
            self.replay_capacity,
            memories[0].features.names,
            actions,
            discount=self.discount,
            extras=tuple(memory.state_name for memory in memories),
            reward=self.reward,
        )

    def check_rows_kept(self, buffer: ReplayBuffer, batch_size: int) -> None:
        """Refuses a buffer that holds no whole sequence of each of ``batch_size`` environments."""
        n_transitions = self.sequence_rows - 1
        if buffer.rows_kept(batch_size) <= n_transitions:
            raise ConfigurationError(
                f"replay_capacity={buffer.capacity}: too few for a sequence of burn_in + sequence_length = "
                f"{n_transitions} transitions in each of {batch_size} environments; must be at least "
                f"{(n_transitions - 1) * batch_size + 1}"
            )

    def batch_of(self, recorded: Workspace, memory: Memory, actions: Sequence[str]) -> SequenceBatch:
        """What rows that were drawn teach."""
        return SequenceBatch(self, recorded, memory.features.names, actions)


class SequenceBatch:
    """N sequences of R rows each, of which the last L + 1 are learned from.

    Args:
        options: burn-in, discount and the variable of the rewards.
        recorded: the rows, ``[R, N, …]``.
        observations: variables that memories see.
        actions: variables that were chosen.

    Attributes:
        observations: one tensor ``[R, N, *shape]`` per leaf.
        starts: ``env/initial_state``, bool ``[R, N]``.
        transitions: the L pairs of rows that are learned from, ``[L, N, …]``.
        valid: which of these are transitions, bool ``[L, N]``.
    """

    def __init__(
        self, options: SequenceOptions, recorded: Workspace, observations: Sequence[str], actions: Sequence[str]
    ) -> None:
        self._recorded = recorded
        self._burn_in = options.burn_in
        self._discount = options.discount
        self.observations = tuple(recorded[name] for name in observations)
        self.starts = recorded[INITIAL_STATE]
        self.transitions: Transitions = align(recorded, observations, actions, options.burn_in, options.reward)
        self.valid = self.transitions.valid

    def state(self, memory: Memory) -> Tensor:
        """The state with which ``memory`` processes the first row, ``[N, S]``."""
        return self._recorded.get(memory.state_name, 0)

    def latent(self, agent: Any) -> Tensor:
        """What ``agent`` makes of the rows that are learned from, ``[L + 1, N, …]``, with its own memory."""
        return agent.latent(self.observations, self.state(agent.memory), self.starts, self._burn_in)  # type: ignore[no-any-return]

    @functools.cached_property
    def _valid_steps(self) -> Tensor:
        return self.valid.flatten().nonzero().squeeze(1)

    def of_steps(self, rows: Tensor) -> Tensor:
        """Those of ``rows``, ``[L, N, …]``, that belong to one of the n transitions, ``[n, …]``."""
        return rows.flatten(0, 1).index_select(0, self._valid_steps)

    @functools.cached_property
    def actions(self) -> tuple[Tensor, ...]:
        """Of the n transitions, ``[n, …]`` per leaf."""
        return tuple(self.of_steps(leaf) for leaf in self.transitions.actions)

    @functools.cached_property
    def rewards(self) -> Tensor:
        """Of the n transitions, ``[n]``."""
        return self.of_steps(self.transitions.rewards)

    @functools.cached_property
    def terminated(self) -> Tensor:
        """Whether the future is worth nothing after them, bool ``[n]``."""
        return self.of_steps(self.transitions.terminated)

    @property
    def discounts(self) -> Tensor:
        """γ, ``[n]``."""
        return torch.full_like(self.rewards, self._discount)


class ReplayedSequences(Replayed[SequenceBatch]):
    """Batches of sequences.

    Args:
        options: sizes and numbers; a learner that has them hands over itself.
        memories: of the policy and of others, which see the same variables.
        actions: variables that are chosen.
    """

    def __init__(self, options: SequenceOptions, memories: Sequence[Memory], actions: Sequence[str]) -> None:
        super().__init__(options.sequence_buffer(memories, actions), options)
        self._options: SequenceOptions
        self._memory = memories[0]
        self._actions = tuple(actions)

    def can_draw(self) -> bool:
        return self.buffer.n_sequences(self._options.sequence_rows) > 0

    def draw(self) -> SequenceBatch:
        options = self._options
        recorded = self.buffer.sample_sequences(options.batch_size, options.sequence_rows, self._generator)
        return options.batch_of(recorded, self._memory, self._actions)
