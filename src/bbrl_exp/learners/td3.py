"""Twin delayed deterministic policy gradient (Fujimoto et al., 2018, arXiv:1802.09477, algorithm 1).

DDPG with three changes against values that are too high: the smaller of two critics is believed, actions of the target
policy are smoothed by noise, and the policy moves more rarely than the critics. Each critic minimises

    ½ (Q_i(s, a) - y)²,    y = r + γ min_j Q'_j(s', clip(μ'(s') + ε, -1, 1)) [s' not terminal],
    ε ~ clip(N(0, σ²), -c, c)

and, once in ``policy_delay`` updates, the policy maximises Q_1(s, μ(s)) and the targets follow.

Deviations from the paper: the losses have the factor ½; the weights are orthogonal at first. As in its authors' code,
smoothed actions are clipped, and a truncated episode keeps its bootstrap. All numbers of actions are for actions in
[-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbrl_exp.arguments import AtLeastZero, Count
from bbrl_exp.data.replay import Batch
from bbrl_exp.learners.parts.deterministic_actor_critic import DeterministicActorCritic
from bbrl_exp.learners.parts.with_options import with_options
from bbrl_exp.seeding import torch_generator


@with_options
class TD3(DeterministicActorCritic):
    """Learns a deterministic policy and several critics from a replay buffer.

    Args:
        critic: critics of state and action, two in the paper.
        policy_delay: updates of the critics per update of the policy and the targets.
        smoothing_std: σ of the noise on the target policy's actions.
        smoothing_clip: c, its largest size.
        updates_per_step: updates of the critics per environment step after that, fractions included.

    Raises:
        ConfigurationError: a value out of its range, or a critic that does not fit.
    """

    policy_delay: Count = 2
    smoothing_std: AtLeastZero = 0.2
    smoothing_clip: AtLeastZero = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._generator = torch_generator(self.seed, "learner", "smoothing")

    def loss_of_critics(self, batch: Batch) -> tuple[Tensor, Tensor]:
        shape = (len(batch.rewards), self.policy.bounds.n_components)
        return self.critic_loss(batch, torch.randn(shape, generator=self._generator).to(batch.rewards.device))

    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the critics' losses, and the values that they give, detached, ``[M, N]``.

        Args:
            batch: N transitions.
            noise: standard normal, ``[N, D]``.
        """
        with torch.no_grad():
            smoothing = (self.smoothing_std * noise).clamp(-self.smoothing_clip, self.smoothing_clip)
            next_actions = (self.target_policy.unit_actions(batch.next_observations) + smoothing).clamp(-1.0, 1.0)
        return self.loss_towards(next_actions, batch)
