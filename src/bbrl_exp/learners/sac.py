"""Soft actor-critic (Haarnoja et al., 2018, arXiv:1812.05905, algorithm 1).

The return is augmented by the policy's entropy, weighted by a temperature α. From batches of a replay buffer, with
a, a' drawn from the policy and slow copies Q' of the critics, one minimises

    critics        ½ (Q_i(s, a_taken) - y)²,    y = r + γ (min_j Q'_j(s', a') - α log π(a'|s')) [s' not terminal]
    policy         α log π(a|s) - min_i Q_i(s, a)                                              (equations 5 to 9)
    temperature    -log α (log π(a|s) + H),    H the entropy that is wanted, -D for D action components (section 5)

Deviations from the paper: the temperature's loss is of log α instead of α, which keeps it positive; densities and
entropies are those of actions in [-1, 1], whatever the environment's bounds; the first actions are drawn uniformly
(``random_steps``); exploration may use correlated noise; a truncated episode keeps its bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.data.replay import Batch
from bbrl_exp.functional.losses import summed_half_squares
from bbrl_exp.functional.squashing import SquashedSample
from bbrl_exp.learners.parts.soft_actor_critic import TargetedSoftActorCritic


class SAC(TargetedSoftActorCritic):
    """Learns a stochastic policy, several critics and the temperature from a replay buffer."""

    def loss_towards(self, batch: Batch, following: SquashedSample) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            next_values = self.target_critic.values(batch.next_observations, following.action).amin(dim=0)
            target = self.soft_target(batch, next_values, following.log_prob)
        values = self.critic.values(batch.observations, self.policy.bounds.to_unit(batch.actions[0]))
        return summed_half_squares(values, target), values.detach()

    def value_for_policy(self, observations: Sequence[Tensor], actions: Tensor) -> Tensor:
        return self.critic.values(observations, actions).amin(dim=0)
