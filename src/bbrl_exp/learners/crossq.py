"""CrossQ: soft actor-critic without target networks (Bhatt et al., 2024, arXiv:1902.05605).

The critics have batch normalisation, and see both ends of the transitions in one batch, so that they are normalised by
the same statistics. Each critic minimises, with Q and Q' from one pass over (s, a_taken) and (s', a'),

    ½ (Q_i(s, a_taken) - y)²,    y = r + γ (min_j Q'_j(s', a') - α log π(a'|s')) [s' not terminal]

without gradient through y, and, once in ``policy_delay`` updates, the policy minimises α log π(a|s) - min_i Q_i(s, a)
with the critics in evaluation mode, and the temperature is learned as in SAC.

Deviations from the paper: the policy has no batch normalisation; the critics are as wide as the configuration says, not
2048 units; the temperature's loss is of log α; the first actions are drawn uniformly (``random_steps``); a truncated
episode keeps its bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZero, Count, FromZeroBelowOne, Scheduled, check_default
from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import summed_half_squares
from bbrl_exp.functional.squashing import SquashedSample
from bbrl_exp.learners.parts.soft_actor_critic import SquashedSoftActorCritic


class CrossQ(SquashedSoftActorCritic):
    """Learns a stochastic policy, critics with ``normalization: batch`` and the temperature from a replay buffer."""

    uses = "batch normalisation"
    policy_delay: Count = 3
    """updates of the critics an update of the policy and the temperature."""
    first_moment_decay: FromZeroBelowOne = 0.5
    """β₁ of the Adam of policy and critics; without ``optimizer`` only."""
    policy_learning_rate: Scheduled[AboveZero] = 1e-3
    critic_learning_rate: Scheduled[AboveZero] = 1e-3
    temperature_learning_rate: Scheduled[AboveZero] | None = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer is not None:
            check_default("optimizer", self, "first_moment_decay")
        self.critic.eval()
        if not self.critic.network.renormalizations:
            raise ConfigurationError("critic.normalization: CrossQ needs 'batch'")

    def loss_towards(self, batch: Batch, following: SquashedSample) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            actions = torch.cat((self.policy.bounds.to_unit(batch.actions[0]), following.action))
            both_ends = [torch.cat(ends) for ends in zip(batch.observations, batch.next_observations, strict=True)]
        self.critic.train()
        values, next_values = self.critic.values(both_ends, actions).chunk(2, dim=1)
        self.critic.eval()
        target = self.soft_target(batch, next_values.detach().amin(dim=0), following.log_prob)
        return summed_half_squares(values, target), values.detach()

    def value_for_policy(self, observations: Sequence[Tensor], actions: Tensor) -> Tensor:
        return self.critic.values(observations, actions).amin(dim=0)

    def follow(self) -> None:
        """There is no target."""
