"""Truncated quantile critics (Kuznetsov et al., 2020, arXiv:2005.04269, algorithm 1).

SAC whose M critics each give K quantiles of the return. All M K target quantiles of the next state are sorted, and the
largest, ``dropped_quantiles`` for each critic, are left out; k of them are kept, z_1 ≤ … ≤ z_k. Each critic minimises

    Σ_m mean_i |τ_m - [u_mi < 0]| L(u_mi),    u_mi = y_i - θ_m(s, a_taken),    τ_m = (2 m - 1) / (2 K),
    y_i = r + γ (z_i - α log π(a'|s')) [s' not terminal]

with the Huber loss L, while the policy minimises α log π(a|s) minus the mean of all quantiles of all critics, and the
temperature is learned as in SAC.

Deviations from the paper: the quantile loss is a sum over levels and a mean over targets instead of a mean over both;
the first actions are drawn uniformly (``random_steps``); a truncated episode keeps its bootstrap. The temperature's
loss is of log α, as in its authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import quantile_huber
from bbrl_exp.functional.squashing import SquashedSample
from bbrl_exp.learners.parts.soft_actor_critic import TargetedSoftActorCritic


class TQC(TargetedSoftActorCritic):
    """Learns a stochastic policy, critics of quantiles (five of 25 in the paper) and the temperature from replay."""

    uses = "quantiles"
    dropped_quantiles: int = 2
    """quantiles left out of the targets, for each critic; 0 to 5 in the paper, by the task."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropped_quantiles < self.critic.n_quantiles:
            raise ConfigurationError(
                f"dropped_quantiles={self.dropped_quantiles}: 0 or more, and below "
                f"critic.n_quantiles={self.critic.n_quantiles}"
            )
        self._n_kept = self.critic.n_critics * (self.critic.n_quantiles - self.dropped_quantiles)

    def loss_towards(self, batch: Batch, following: SquashedSample) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            next_quantiles = self.target_critic.quantiles(batch.next_observations, following.action)
            kept = next_quantiles.transpose(0, 1).flatten(1).sort(dim=1).values[:, : self._n_kept]
            soft = kept - self.temperature.value * following.log_prob[:, None]
            discounts = batch.discounts.masked_fill(batch.terminated, 0.0)
            targets = batch.rewards[:, None] + discounts[:, None] * soft
        quantiles = self.critic.quantiles(batch.observations, self.policy.bounds.to_unit(batch.actions[0]))
        losses = [quantile_huber(of_one_critic, targets).mean() for of_one_critic in quantiles]
        return torch.stack(losses).sum(), quantiles.detach()

    def value_for_policy(self, observations: Sequence[Tensor], actions: Tensor) -> Tensor:
        return self.critic.values(observations, actions).mean(dim=0)
