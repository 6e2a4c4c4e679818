"""Deep deterministic policy gradient (Lillicrap et al., 2016, arXiv:1509.02971, algorithm 1).

From batches of a replay buffer, with target networks Q' and μ' that follow Q and μ slowly, a critic minimises

    ½ (Q(s, a) - y)²,    y = r + γ Q'(s', μ'(s')) [s' not terminal]

and a deterministic policy maximises Q(s, μ(s)). The policy explores by noise on its actions.

Deviations from the paper: the critic's loss has the factor ½; the noise is independent from step to step unless
``noise_correlation`` says otherwise; no weight decay, no batch normalisation; actions enter the critic's first layer,
as numbers in [-1, 1]; the weights are orthogonal at first; the first actions are drawn uniformly (``random_steps``); a
truncated episode keeps its bootstrap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZero, Scheduled
from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.parts.deterministic_actor_critic import DeterministicActorCritic


class DDPG(DeterministicActorCritic):
    """Learns a deterministic policy and one critic from a replay buffer."""

    policy_learning_rate: Scheduled[AboveZero] = 1e-4
    critic_learning_rate: Scheduled[AboveZero] = 1e-3

    def __post_init__(self) -> None:
        if self.critic.n_critics != 1:
            raise ConfigurationError(f"critic.n_critics={self.critic.n_critics}: DDPG has 1 critic; TD3 has several")
        super().__post_init__()

    @torch.no_grad()
    def next_actions(self, batch: Batch) -> Tensor:
        return self.target_policy.unit_actions(batch.next_observations)
