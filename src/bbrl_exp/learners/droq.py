"""DroQ: soft actor-critic with many updates a step (Hiraoka et al., 2022, arXiv:2110.02034, algorithm 2).

The critics have dropout and layer normalisation in every hidden layer, which makes twenty updates for each step of the
environment safe. Each critic minimises, with slow copies Q' and dropout in all of them,

    ½ (Q_i(s, a_taken) - y)²,    y = r + γ (min_j Q'_j(s', a') - α log π(a'|s')) [s' not terminal]

and, once in ``policy_delay`` updates, the policy minimises α log π(a|s) minus the mean of all critics, and the
temperature is learned as in SAC.

Deviations from the paper: the temperature's loss is of log α; the first actions are drawn uniformly
(``random_steps``); a truncated episode keeps its bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZeroToAMillion, Count
from bbrl_exp.data.replay import Batch
from bbrl_exp.functional.losses import summed_half_squares
from bbrl_exp.functional.squashing import SquashedSample
from bbrl_exp.learners.parts.soft_actor_critic import TargetedSoftActorCritic
from bbrl_exp.seeding import torch_generator


class DroQ(TargetedSoftActorCritic):
    """Learns a stochastic policy, critics with dropout and layer normalisation, and the temperature, from replay."""

    uses = "dropout"
    policy_delay: Count = 20
    """updates of the critics an update of the policy and the temperature."""
    updates_per_step: AboveZeroToAMillion = 20.0
    """updates of the critics per environment step after that, fractions included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._dropout_generator = torch_generator(self.seed, "learner", "dropout")

    def loss_towards(self, batch: Batch, following: SquashedSample) -> tuple[Tensor, Tensor]:
        dropout = self._dropout_generator
        with torch.no_grad():
            next_values = self.target_critic.values(batch.next_observations, following.action, dropout).amin(dim=0)
            target = self.soft_target(batch, next_values, following.log_prob)
        values = self.critic.values(batch.observations, self.policy.bounds.to_unit(batch.actions[0]), dropout)
        return summed_half_squares(values, target), values.detach()

    def value_for_policy(self, observations: Sequence[Tensor], actions: Tensor) -> Tensor:
        return self.critic.values(observations, actions, self._dropout_generator).mean(dim=0)

    def generators(self) -> list[torch.Generator]:
        return [*super().generators(), self._dropout_generator]

    def draws(self, batch: Batch, moves_policy: bool) -> list[Tensor]:
        device, n = batch.rewards.device, len(batch.rewards)
        passes = [self.critic.network.draw_masks(n, self._dropout_generator) for _ in range(2 + moves_policy)]
        return [*(mask.to(device) for masks in passes for mask in masks), *super().draws(batch, moves_policy)]

    def with_draws(self, drawn: Sequence[Tensor]) -> Mapping[str, Any]:
        n_masks = sum(each.ndim == 3 for each in drawn)  # those of critics, [M, N, H]
        return {**super().with_draws(drawn[n_masks:]), "_dropout_generator": iter(drawn[:n_masks])}
