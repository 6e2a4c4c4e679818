"""What actor-critic learners with a memory learn from: a chunk as sequences, with states, values and advantages."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from bbrl_exp.data.transitions import align
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.cuts import BurnIn, CutOptions, Cuts
from bbrl_exp.learners.parts.options import AdvantageOptions
from bbrl_exp.learners.parts.samples import Samples
from bbrl_exp.policies.memory import INITIAL_STATE
from bbrl_exp.policies.recurrent import RecurrentCritic, RecurrentPolicy
from bbrl_exp.workspace import Workspace


class SequenceAdvantageOptions(CutOptions, AdvantageOptions):
    """How a chunk is cut, and what its advantages are."""


@dataclass(frozen=True)
class Sequences:
    """M sequences of L consecutive rows of an environment each, without gradients.

    Attributes:
        observations: what the memory is shown, one tensor ``[L, M, *shape]`` per variable of its ``names``.
        starts: bool ``[L, M]``: an episode begins in that row.
        policy_state: with which the policy processed the first row, ``[M, S]``.
        critic_state: with which the critic processed it, ``[M, S]``; S is 0 where the critic has no memory.
        actions: one tensor ``[L, M, *shape]`` a leaf.
        log_probs: of the actions under the policy that chose them, ``[L, M]``.
        values: of the critic as it was, ``[L, M]``.
        advantages: generalised advantage estimates (Schulman et al., 2016), ``[L, M]``.
        returns: ``advantages + values``, what the critic should have said, ``[L, M]``.
        valid: bool ``[L, M]``: false in the last row of an episode, in which no action was taken; what ``actions``,
            ``log_probs``, ``advantages`` and ``returns`` hold there means nothing.
        policy_burn_in: the rows before, for the policy's memory; None without a burn-in.
        critic_burn_in: the same for the critic's memory; None where it has none, too.
    """

    observations: tuple[Tensor, ...]
    starts: Tensor
    policy_state: Tensor
    critic_state: Tensor
    actions: tuple[Tensor, ...]
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    valid: Tensor
    policy_burn_in: BurnIn | None = None
    critic_burn_in: BurnIn | None = None

    def __len__(self) -> int:
        return self.starts.shape[1]

    @functools.cached_property
    def _valid_steps(self) -> Tensor:
        return self.valid.flatten().nonzero().squeeze(1)

    def of_steps(self, rows: Tensor) -> Tensor:
        """Those of ``rows``, ``[L, M, …]``, that belong to one of the N valid steps, ``[N, …]``."""
        return rows.flatten(0, 1).index_select(0, self._valid_steps)

    def steps(self) -> Samples:
        """The valid steps in the order of time, then of sequences."""
        return Samples(
            observations=tuple(self.of_steps(leaf) for leaf in self.observations),
            actions=tuple(self.of_steps(leaf) for leaf in self.actions),
            log_probs=self.of_steps(self.log_probs),
            values=self.of_steps(self.values),
            advantages=self.of_steps(self.advantages),
            returns=self.of_steps(self.returns),
        )

    def select(self, indexes: Tensor) -> Sequences:
        """The sequences at ``indexes``, int64 ``[N]``."""
        return Sequences(
            observations=tuple(leaf.index_select(1, indexes) for leaf in self.observations),
            starts=self.starts.index_select(1, indexes),
            policy_state=self.policy_state.index_select(0, indexes),
            critic_state=self.critic_state.index_select(0, indexes),
            actions=tuple(leaf.index_select(1, indexes) for leaf in self.actions),
            log_probs=self.log_probs.index_select(1, indexes),
            values=self.values.index_select(1, indexes),
            advantages=self.advantages.index_select(1, indexes),
            returns=self.returns.index_select(1, indexes),
            valid=self.valid.index_select(1, indexes),
            policy_burn_in=None if self.policy_burn_in is None else self.policy_burn_in.select(indexes),
            critic_burn_in=None if self.critic_burn_in is None else self.critic_burn_in.select(indexes),
        )


@torch.no_grad()
def collect_sequences(
    workspace: Workspace,
    progress: Progress,
    policy: RecurrentPolicy,
    critic: RecurrentCritic,
    behaviour: BehaviourLogProbs,
    options: SequenceAdvantageOptions,
) -> Sequences:
    """The new rows but the last as sequences: those of the beginning of the chunk first, then in the order of time.

    Every row passes through the memory once, with the state that the policy had in it, so that actions have the
    log-probabilities with which they were chosen, and the final observation of an episode, and the last row of the
    chunk, are valued with the state in which they were reached.

    Args:
        workspace: the chunk, with the states that policy and critic had.
        progress: says which rows are new.
        policy: that chose the actions, unchanged since but for the first row: its actions, what its memory made of it.
        critic: of the rows.
        behaviour: knows how likely those were.
        options: of the advantages, and of the sequences.

    Raises:
        ConfigurationError: the chunk cannot be cut into these sequences.
    """
    first = progress.first_row
    memory = policy.memory
    transitions = align(workspace, memory.names, policy.actions, first, options.reward)
    n_steps, batch_size = transitions.rewards.shape
    cuts = Cuts(n_steps, options.sequence_length, options.burn_in)
    cut = cuts.cut

    observations = tuple(leaf[first:] for leaf in memory.read(workspace))
    starts = workspace[INITIAL_STATE][first:]
    policy_states = workspace[memory.state_name][first:]
    critic_states = policy_states[..., :0] if critic.memory is None else workspace[critic.memory.state_name][first:]
    # From row 1 on the states that were recorded are those of the policy as it is; what row 0 hands on are not.
    latent = torch.cat(
        (
            policy.latent([leaf[:1] for leaf in observations], policy_states[0], starts[:1]),
            policy.latent([leaf[1:] for leaf in observations], policy_states[1], starts[1:]),
        )
    )
    values = critic.values(latent, observations, critic_states[0], starts)
    advantages = options.advantages(transitions, values)
    recorded = [workspace.get_full(name)[first:] for name in (*memory.names, *policy.actions)]
    actions = [leaf.flatten(0, 1) for leaf in recorded[len(memory.names) :]]
    log_probs = policy.distribution_of(latent.flatten(0, 1)).log_prob(actions).view(n_steps + 1, batch_size)

    return Sequences(
        observations=tuple(cut(leaf) for leaf in observations),
        starts=cut(starts),
        policy_state=cut(policy_states)[0],
        critic_state=cut(critic_states)[0],
        actions=tuple(cut(leaf) for leaf in transitions.actions),
        log_probs=cut(behaviour.of_chunk(log_probs, recorded)),
        values=cut(values),
        advantages=cut(advantages),
        returns=cut(advantages + values[:-1]),
        valid=cut(transitions.valid),
        policy_burn_in=cuts.burn_in_of(observations, policy_states, starts),
        critic_burn_in=None if critic.memory is None else cuts.burn_in_of(observations, critic_states, starts),
    )
