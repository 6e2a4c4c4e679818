"""Deep Q-learning with a memory (Hausknecht & Stone, 2015; Kapturowski et al., 2019, "R2D2").

Sequences of rows are drawn from a replay buffer together with the states that the recurrent network had when it acted;
``initial_state`` may replace these by zeros. The first ``burn_in`` rows bring the state up to date with the present
network (Kapturowski et al., section 3); the values of the actions taken in the rows after them move towards

    r_1 + γ r_2 + … + γⁿ⁻¹ r_n + γⁿ Q'(s', argmax_a' Q(s', a'))

where Q' is a target network that follows Q slowly, unrolled over the same rows. Steps n are fewer where the episode is
cut or the sequence ends; the future is worth nothing where the episode has terminated. A sequence may hold several
episodes: the state is zeroed where one begins, and the pair of rows between two is masked.

Deviations from R2D2: sequences are drawn uniformly; they begin at any row and may cross the end of an episode, unless
``sequence_stride`` and ``crosses_episodes`` say otherwise; values are not rescaled; one policy acts, with one ε; the
previous action and reward are inputs only where they are asked for; the loss is that of Huber; a truncated episode
keeps its bootstrap.
"""

from __future__ import annotations

from dataclasses import field

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from bbrl_exp.arguments import AboveZeroToAMillion, AboveZeroToOne, Count, Scheduled
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.returns import n_step_returns
from bbrl_exp.learners.parts.replayed_q_learning import Learned, ReplayedQLearning
from bbrl_exp.learners.parts.replayed_sequences import SequenceBatch, SequenceOptions
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace


class RecurrentDQN(SequenceOptions, ReplayedQLearning):
    """Learns the action values of a recurrent policy from a replay buffer of sequences.

    Raises:
        ConfigurationError: a value out of its range, or options that contradict each other.
    """

    policy: RecurrentQPolicy = field(kw_only=False)
    replay_capacity: Count = 100_000
    updates_per_step: AboveZeroToAMillion = 0.125
    target_rate: Scheduled[AboveZeroToOne] | None = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.target_network = self.target_of(self.policy.network)
        if self.n_steps > self.sequence_length:
            raise ConfigurationError(f"n_steps={self.n_steps}: no more than sequence_length={self.sequence_length}")
        memory = self.policy.network.memory
        self._names = memory.names
        self._replay: ReplayBuffer = self.sequence_buffer((self.policy.action,), memory)
        self._generator = numpy_generator(self.seed, "learner", "recurrent_dqn")

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses a replay buffer that holds no whole sequence of an environment."""
        self.check_rows_kept(self._replay, batch_size)

    def can_learn(self) -> bool:
        return self._replay.n_sequences(self.sequence_rows) > 0

    def learn(self, fraction: float) -> Learned:
        recorded = self._replay.sample_sequences(self.batch_size, self.sequence_rows, self._generator)
        values, returns, valid = self.sequences(recorded)
        losses = smooth_l1_loss(values, returns, reduction="none").masked_fill(~valid, 0.0)
        loss = losses.sum() / valid.sum().clamp(min=1)
        return Learned(loss, self._optimizer.step(loss), values, valid)

    def sequences(self, recorded: Workspace) -> tuple[Tensor, Tensor, Tensor]:
        """What the rows after the burn-in but the last teach: values of the actions taken, their targets, validity.

        Args:
            recorded: sequences of L rows, with the states that the policy had in the first.

        Returns:
            Float32, float32 without gradient and bool, all ``[L - burn_in - 1, N]``.
        """
        network = self.policy.network
        batch = SequenceBatch(self, recorded, self._names, (self.policy.action,))
        transitions = batch.transitions
        rows = batch.rows_for(network.memory)
        online = network.values(*rows)
        with torch.no_grad():
            target = self.target_network.values(*rows)[1:]
            best = (online[1:] if self.double else target).argmax(dim=2, keepdim=True)
            returns = n_step_returns(
                transitions.rewards,
                target.gather(2, best).squeeze(2),
                transitions.terminated,
                transitions.cut,
                self.discount,
                self.n_steps,
            )
        indexes = self.policy.exploration.indexes(transitions.actions[0])
        return online[:-1].gather(2, indexes.unsqueeze(2)).squeeze(2), returns, batch.valid
