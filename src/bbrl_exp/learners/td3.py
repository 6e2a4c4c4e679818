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

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.arguments import AtLeastZero, Count, Scheduled
from bbrl_exp.data.replay import Batch
from bbrl_exp.learners.parts.deterministic_actor_critic import DeterministicActorCritic
from bbrl_exp.seeding import torch_generator


class TD3(DeterministicActorCritic):
    """Learns a deterministic policy and several critics from a replay buffer."""

    compiled_numbers = ("target_rate", "smoothing_std", "smoothing_clip")
    policy_delay: Count = 2
    """updates of the critics per update of the policy and the targets."""
    smoothing_std: Scheduled[AtLeastZero] = 0.2
    """σ of the noise on the target policy's actions."""
    smoothing_clip: Scheduled[AtLeastZero] = 0.5
    """c, its largest size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._generator = torch_generator(self.seed, "learner", "smoothing")

    def next_actions(self, batch: Batch) -> Tensor:
        return self.smoothed_actions(batch, self.draw_noise(batch.rewards))

    def draw_noise(self, like: Tensor) -> Tensor:
        """Standard normal noise for actions, ``[N, D]`` on the device of a tensor ``[N, …]``."""
        shape = (len(like), self.policy.bounds.n_components)
        return torch.randn(shape, generator=self._generator).to(like.device)

    def generators(self) -> list[torch.Generator]:
        return [self._generator]

    def draws(self, batch: Batch, moves_policy: bool) -> list[Tensor]:
        return [self.draw_noise(batch.rewards)]

    def with_draws(self, drawn: Sequence[Tensor]) -> Mapping[str, Any]:
        noise = iter(drawn)
        return {"draw_noise": lambda like: next(noise)}

    @torch.no_grad()
    def smoothed_actions(self, batch: Batch, noise: Tensor) -> Tensor:
        """The target policy's next actions with standard normal ``noise``, ``[N, D]``, scaled and clipped."""
        smoothing = (self.smoothing_std * noise).clamp(-self.smoothing_clip, self.smoothing_clip)
        return (self.target_policy.unit_actions(batch.next_observations) + smoothing).clamp(-1.0, 1.0)
