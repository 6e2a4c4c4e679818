"""Soft actor-critic for discrete actions (Christodoulou, 2019, arXiv:1910.07207, algorithm 1).

SAC in which expectations over the policy's actions are sums. With π the probabilities of the A actions, each critic
minimises

    ½ (Q_i(s, a_taken) - y)²,    y = r + γ Σ_a' π(a'|s') (min_j Q'_j(s', a') - α log π(a'|s')) [s' not terminal]

and the policy minimises Σ_a π(a|s) (α log π(a|s) - min_i Q_i(s, a)); the temperature α is learned from the entropy
Σ_a -π(a|s) log π(a|s), whose target is ``target_entropy_ratio`` of its largest value, log A.

Deviations from the paper: the temperature's loss is of log α, as in its author's code; the ratio is 0.5, because the
paper's 0.98 is hardly less than acting at random; a truncated episode keeps its bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import field

import torch
from torch import Tensor

from bbrl_exp.arguments import Count, FromZeroBelowOne, Scheduled, check_unused
from bbrl_exp.data.replay import Batch
from bbrl_exp.functional.losses import q_target, summed_half_squares
from bbrl_exp.functional.schedules import before_the_run
from bbrl_exp.learners.parts.q_critics import TargetOptions, check_q_critic
from bbrl_exp.learners.parts.replayed import ReplayedBatches
from bbrl_exp.learners.parts.soft_actor_critic import SoftActorCritic
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble
from bbrl_exp.policies.stochastic import StochasticPolicy


class DiscreteSAC(TargetOptions, SoftActorCritic[Batch]):
    """Learns a categorical policy, several critics and the temperature from a replay buffer."""

    compiled_numbers = ("temperature._target_entropy", "target_rate")
    policy: StochasticPolicy = field(kw_only=False)
    """the policy that chooses the actions."""
    critic: DiscreteQEnsemble = field(kw_only=False)
    """critics of every action, two in the paper."""
    target_entropy_ratio: Scheduled[FromZeroBelowOne] | None = None
    """the entropy that is wanted, as a part of log A; None for 0.5."""
    batch_size: Count = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature_learning_rate is None:
            check_unused("temperature_learning_rate=null", target_entropy_ratio=self.target_entropy_ratio)
        self.target_critic = self.target_of(self.critic)
        check_q_critic(self, self.policy, self.critic)
        self.prepare(self.policy, self.critic, ReplayedBatches(self.policy, self))

    @property
    def wanted_entropy(self) -> float:
        ratio = 0.5 if self.target_entropy_ratio is None else before_the_run(self.target_entropy_ratio, 0.5)
        return ratio * math.log(self.critic.n_actions)

    def loss_of_critics(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.critic_loss(batch)

    def loss_of_policy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, entropies = self.policy_loss(batch)
        return loss, -entropies

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of the critics' losses, and the values of the actions taken, detached, ``[M, N]``."""
        with torch.no_grad():
            log_probs = self._log_probs(batch.next_observations)
            next_values = self.target_critic.values(batch.next_observations).amin(dim=0)
            soft_values = (log_probs.exp() * (next_values - self.temperature.value * log_probs)).sum(dim=1)
            target = q_target(batch.rewards, batch.terminated, batch.discounts, soft_values)
        values = self.critic.values(batch.observations)
        indexes = (batch.actions[0].long() - self.critic.first_action)[None, :, None].expand(len(values), -1, 1)
        taken = values.gather(2, indexes).squeeze(2)
        return summed_half_squares(taken, target), taken.detach()

    def policy_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The policy's loss, and its entropies in nats, detached, ``[N]``."""
        with torch.no_grad():
            values = self.critic.values(batch.observations).amin(dim=0)
        log_probs = self._log_probs(batch.observations)
        probabilities = log_probs.exp()
        loss = (probabilities * (self.temperature.value * log_probs - values)).sum(dim=1).mean()
        return loss, -(probabilities * log_probs).sum(dim=1).detach()

    def _log_probs(self, observations: tuple[Tensor, ...]) -> Tensor:
        return self.policy.network(self.policy.features(observations)).log_softmax(dim=1)  # type: ignore[no-any-return]
