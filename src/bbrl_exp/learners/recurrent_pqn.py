"""Parallelised Q-network with a memory (Gallici et al., 2024, arXiv:2407.04811).

As :mod:`bbrl_exp.learners.pqn`, for values Q(s_0 … s_t, a) that depend on all that the episode has shown. Once per
chunk, with the network as it was, the λ-return of the greedy policy is computed from right to left,

    G_t = r_t + γ ((1 − λ) max_a Q(s_0 … s_{t+1}, a) + λ G_{t+1})

and at the end of the chunk G_t = r_t + γ max_a Q(s_0 … s_{t+1}, a). Then the chunk is cut into sequences. A minibatch
is a number of these: each passes through the memory from the state that is recorded where it begins, zeroed where an
episode starts, and the gradient flows through all of it.

Deviations from the paper: those of :mod:`bbrl_exp.learners.pqn`; sequences may be shorter than the chunk, and a state
that was recorded before the chunk's updates may be brought up to date by the rows before it (``burn_in``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bbrl_exp.arguments import Count
from bbrl_exp.data.transitions import align, parts
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.cuts import BurnIn, BurnInOptions, Cuts
from bbrl_exp.learners.parts.parallel_q_learning import ParallelQLearning
from bbrl_exp.policies.memory import INITIAL_STATE
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.workspace import Workspace


@dataclass(frozen=True)
class ValuedSequences:
    """M sequences of L consecutive rows of an environment each, without gradients.

    Attributes:
        rows: what the memory sees, one tensor ``[L, M, *shape]`` per variable.
        starts: bool ``[L, M]``: an episode begins in that row.
        state: with which the memory processed the first row, ``[M, S]``.
        burn_in: the rows before; None without a burn-in.
        indexes: positions of the actions, int64 ``[L, M]``.
        returns: λ-returns, ``[L, M]``.
        valid: bool ``[L, M]``: false in the last row of an episode, in which no action was taken.
    """

    rows: tuple[Tensor, ...]
    starts: Tensor
    state: Tensor
    burn_in: BurnIn | None
    indexes: Tensor
    returns: Tensor
    valid: Tensor


class RecurrentPQN(BurnInOptions, ParallelQLearning[ValuedSequences]):
    """Learns the action values of a recurrent policy from each chunk, which is then thrown away.

    Raises:
        ConfigurationError: a value out of its range, or options that contradict each other.
    """

    policy: RecurrentQPolicy = field(kw_only=False)
    """the policy that chooses the actions; its ε is set here. It should have ``layer_norm``."""
    n_minibatches: Count = 4
    """minibatches per epoch, evenly sized (at most one per sequence)."""

    def minibatches(self, experience: ValuedSequences) -> Iterator[tuple[Tensor, Tensor]]:
        n_sequences, device = experience.starts.shape[1], experience.starts.device
        memory = self.policy.network.memory
        for part in parts(n_sequences, self.n_minibatches, self._generator, device):
            valid = experience.valid.index_select(1, part)
            if not valid.any():
                continue
            state = experience.state.index_select(0, part)
            if experience.burn_in is not None:
                state = experience.burn_in.select(part).state_after(memory, state)
            rows = [leaf.index_select(1, part) for leaf in experience.rows]
            values = self.policy.network.values(rows, state, experience.starts.index_select(1, part))
            taken = values.gather(2, experience.indexes.index_select(1, part).unsqueeze(2)).squeeze(2)
            yield taken[valid], experience.returns.index_select(1, part)[valid]

    @torch.no_grad()
    def collect(self, workspace: Workspace, progress: Progress) -> ValuedSequences:
        """The new rows but the last as sequences: those of the beginning of the chunk first, then in the order of time.

        Every row but the first passes through the memory with the state that the policy had in it, so that what is
        bootstrapped from was valued with the state in which it was reached.
        """
        first, network = progress.first_row, self.policy.network
        memory = network.memory
        transitions = align(workspace, memory.names, (self.policy.action,), first, self.reward)
        cuts = Cuts(len(transitions.rewards), self.sequence_length, self.burn_in)
        rows = tuple(leaf[first:] for leaf in memory.read(workspace))
        starts, states = workspace[INITIAL_STATE][first:], workspace[memory.state_name][first:]
        # From row 1 on the states that were recorded are those of the policy as it is; what row 0 hands on are not.
        values = torch.cat(
            (
                network.values([leaf[:1] for leaf in rows], states[0], starts[:1]),
                network.values([leaf[1:] for leaf in rows], states[1], starts[1:]),
            )
        )
        returns = self.returns_of(transitions, values.amax(dim=2))
        return ValuedSequences(
            rows=tuple(cuts.cut(leaf) for leaf in rows),
            starts=cuts.cut(starts),
            state=cuts.cut(states)[0],
            burn_in=cuts.burn_in_of(rows, states, starts),
            indexes=cuts.cut(self.policy.exploration.indexes(transitions.actions[0])),
            returns=cuts.cut(returns),
            valid=cuts.cut(transitions.valid),
        )
