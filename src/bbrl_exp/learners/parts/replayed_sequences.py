"""Replay for learners with a memory: sequences of rows, with the states that the memories had where they begin."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from bbrl_exp.arguments import Count, CountOrZero
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.data.transitions import Transitions, align
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.learners.parts.replayed import Replayed, ReplayOptions
from bbrl_exp.policies.memory import INITIAL_STATE, Memory
from bbrl_exp.workspace import Workspace


class HasLatent(Protocol):
    """A policy or critics with a memory."""

    memory: Memory

    def latent(self, rows: Sequence[Tensor], state: Tensor, starts: Tensor, burn_in: int) -> Tensor:
        """What it makes of sequences of R rows, ``[R - burn_in, N, …]``."""


class SequenceOptions(ReplayOptions, Learner):
    """What the sequences of a replay buffer are, and how memories are trained on them."""

    burn_in: CountOrZero = 4
    """rows of a sequence that only bring the state up to date."""
    sequence_length: Count = 16
    """transitions of a sequence that are learned from, which are the steps through which the gradient flows."""
    sequence_stride: Count = 1
    """rows between the beginnings of two sequences; states are kept where one may begin."""
    initial_state: Literal["stored", "zero"] = "stored"
    """state with which a sequence begins, either the one that acted there or zeros."""
    crosses_episodes: bool = True
    """whether a sequence continues in the next episode, with a state of zeros; if not, what follows teaches nothing."""
    batch_size: Count = 16
    """sequences per update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial_state not in ("stored", "zero"):
            raise ConfigurationError(f"initial_state='{self.initial_state}': must be one of stored, zero")

    @property
    def sequence_rows(self) -> int:
        """Rows of a sequence, which are those of the burn-in and one more than there are transitions."""
        return self.burn_in + self.sequence_length + 1

    def what_delays_updates(self) -> str:
        """The options that say when the first update is due."""
        lengths = f"burn_in={self.burn_in}, sequence_length={self.sequence_length}"
        return f"{super().what_delays_updates()}, {lengths}"

    def states_of(self, *memories: Memory) -> tuple[str, ...]:
        """The variables of the states that sequences begin with."""
        return tuple(memory.state_name for memory in memories) if self.initial_state == "stored" else ()

    def sequence_buffer(self, actions: Sequence[str], *memories: Memory) -> ReplayBuffer:
        """A buffer for what memories see, the actions that are chosen, and the states.

        Raises:
            ConfigurationError: a memory's cell is one for learners on policy only.
        """
        for cell in (memory.cell for memory in memories if not memory.cell.replayed):
            raise ConfigurationError(
                f"cell: {type(cell).__name__} has states of {cell.state_size:,} numbers, too large to replay; choose "
                "another memory, or a learner on policy (recurrent_ppo, recurrent_a2c, recurrent_pqn)"
            )
        return ReplayBuffer(
            self.replay_capacity,
            memories[0].names,
            actions,
            discount=self.discount,
            extras=(),
            reward=self.reward,
            states=self.states_of(*memories),
            stride=self.sequence_stride,
        )

    def check_rows_kept(self, buffer: ReplayBuffer, batch_size: int) -> None:
        """Refuses a buffer that does not always hold a whole sequence of each of ``batch_size`` environments."""
        n_rows = self.sequence_rows + self.sequence_stride - 1
        if buffer.rows_kept(batch_size) < n_rows:
            stride = f", beginning at every {self.sequence_stride}th row," if self.sequence_stride > 1 else ""
            raise ConfigurationError(
                f"replay_capacity={buffer.capacity}: too few for a sequence of burn_in + sequence_length = "
                f"{self.sequence_rows - 1} transitions{stride} in each of {batch_size} environments; must be at least "
                f"{(n_rows - 2) * batch_size + 1}"
            )


class SequenceBatch:
    """N sequences of R rows each, of which the last L + 1 are learned from.

    Args:
        options: says how memories are trained on them.
        recorded: the rows, ``[R, N, …]``; of states the first row at least.
        names: variables that memories see.
        actions: variables that were chosen.

    Attributes:
        rows: what memories see, one tensor ``[R, N, *shape]`` per variable.
        starts: ``env/initial_state``, bool ``[R, N]``.
        transitions: the L pairs of rows that are learned from, ``[L, N, …]``.
        valid: which of these are transitions, and are learned from, bool ``[L, N]``.
    """

    def __init__(
        self, options: SequenceOptions, recorded: Workspace, names: Sequence[str], actions: Sequence[str]
    ) -> None:
        self._options = options
        self._recorded = recorded
        self.rows = tuple(recorded[name] for name in names)
        self.starts = recorded[INITIAL_STATE]
        self.transitions: Transitions = align(recorded, names, actions, options.burn_in, options.reward)
        self.valid = self.transitions.valid
        if not options.crosses_episodes:
            later = self.starts[options.burn_in + 1 : -1].cumsum(0) > 0
            self.valid = torch.cat((self.valid[:1], self.valid[1:] & ~later))

    def rows_for(self, memory: Memory) -> tuple[tuple[Tensor, ...], Tensor, Tensor, int]:
        """What a memory is unrolled over: rows, the state in the first row, starts, and rows of burn-in."""
        if self._options.initial_state == "stored":
            state = self._recorded.get(memory.state_name, 0)
        else:
            state = memory.cell.initial_state(self.starts.shape[1])
        return self.rows, state, self.starts, self._options.burn_in

    def latent(self, agent: HasLatent) -> Tensor:
        """What ``agent`` makes of the rows that are learned from, ``[L + 1, N, …]``, with its own memory."""
        return agent.latent(*self.rows_for(agent.memory))

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
        return torch.full_like(self.rewards, self._options.discount)


class ReplayedSequences(Replayed[SequenceBatch]):
    """Batches of sequences.

    Args:
        options: sizes and numbers; a learner that has them hands over itself.
        actions: variables that are chosen.
        memories: of the policy and of others, which see the same variables.
    """

    def __init__(self, options: SequenceOptions, actions: Sequence[str], *memories: Memory) -> None:
        super().__init__(options.sequence_buffer(actions, *memories), options)
        self._options: SequenceOptions
        self._names = memories[0].names
        self._actions = tuple(actions)

    def take(self, workspace: Workspace, progress: Progress) -> Iterator[SequenceBatch]:
        """Those of :meth:`Replayed.take` that hold a transition: few sequences may all be of last rows of episodes."""
        return (batch for batch in super().take(workspace, progress) if len(batch.rewards))

    def can_draw(self) -> bool:
        return self.buffer.n_sequences(self._options.sequence_rows) > 0

    def draw(self) -> SequenceBatch:
        options = self._options
        recorded = self.buffer.sample_sequences(options.batch_size, options.sequence_rows, self._generator)
        return SequenceBatch(options, recorded, self._names, self._actions)
