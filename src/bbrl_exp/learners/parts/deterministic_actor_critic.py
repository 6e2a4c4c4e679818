"""The update that deterministic actor-critics share: the critics, then, perhaps more rarely, policy and targets."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import ClassVar

import torch
from torch import Tensor

from bbrl_exp.data.replay import Batch
from bbrl_exp.functional.losses import q_target, summed_half_squares
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.q_critics import ReplayedActorCritic, TargetOptions, check_q_critic
from bbrl_exp.learners.parts.replayed import ReplayedBatches
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.workspace import Workspace


class DeterministicActorCritic(TargetOptions, ReplayedActorCritic[Batch]):
    """Learns a deterministic policy and critics of its actions from a replay buffer.

    Raises:
        ConfigurationError: a value out of its range, or a critic that does not fit.
    """

    compiled_numbers: ClassVar[tuple[str, ...]] = ("target_rate",)
    policy: DeterministicPolicy = field(kw_only=False)
    """the policy that chooses the actions."""
    critic: QEnsemble = field(kw_only=False)
    """critics of state and action."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_q_critic(self, self.policy, self.critic)
        self.target_policy = self.target_of(self.policy)
        self.target_critic = self.target_of(self.critic)
        self.prepare_updates(self.policy, self.critic, ReplayedBatches(self.policy, self))

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        metrics: Metrics = {}
        for moves_policy, (critic_loss, q_mean, *of_policy) in self.improvements(workspace, progress):
            if moves_policy:
                (self.policy_objective,) = of_policy
            metrics = {
                "losses/q": critic_loss,
                "losses/policy": self.policy_objective,
                "learner/q_mean": q_mean,
                "learner/updates": float(self._replayed.n_updates),
            }
        return metrics

    def improve(self, batch: Batch, moves_policy: bool) -> list[Tensor]:
        critic_loss, q_values = self.critic_loss(batch, self.next_actions(batch))
        self.improve_critic(critic_loss)
        if not moves_policy:
            return [critic_loss.detach(), q_values.mean()]
        policy_loss = self.policy_loss(batch)
        self.improve_policy(policy_loss)
        self.follow()
        return [critic_loss.detach(), q_values.mean(), policy_loss.detach()]

    @abstractmethod
    def next_actions(self, batch: Batch) -> Tensor:
        """The actions in [-1, 1] by which the next observations are valued, ``[N, D]``, without gradient."""

    def critic_loss(self, batch: Batch, next_actions: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the critics' losses, and the values that they give, detached, ``[M, N]``.

        Of ``next_actions``, ``[N, D]``, the smallest value is believed.
        """
        with torch.no_grad():
            next_values = self.target_critic.values(batch.next_observations, next_actions).amin(dim=0)
            target = q_target(batch.rewards, batch.terminated, batch.discounts, next_values)
        values = self.critic.values(batch.observations, self.policy.bounds.to_unit(batch.actions[0]))
        return summed_half_squares(values, target), values.detach()

    def policy_loss(self, batch: Batch) -> Tensor:
        """The policy's loss: the first critic's value of its actions, with the other sign."""
        return -self.critic.values(batch.observations, self.policy.unit_actions(batch.observations))[0].mean()
