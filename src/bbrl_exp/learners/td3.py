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

import copy

import torch
from torch import Tensor
from torch.autograd import backward

from bbrl_exp.arguments import ABOVE_0, ABOVE_0_TO_1, AT_LEAST_0, AT_LEAST_1
from bbrl_exp.data.replay import Batch
from bbrl_exp.functional.losses import q_target
from bbrl_exp.functional.targets import polyak_update
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.q_critics import check_q_critic
from bbrl_exp.learners.parts.replayed import ReplayedBatches
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.seeding import torch_generator
from bbrl_exp.workspace import Workspace


class TD3(Learner):
    """Learns a deterministic policy and several critics from a replay buffer.

    Args:
        policy: the policy that chooses the actions.
        critic: critics of state and action, two in the paper.
        policy_learning_rate: of the policy's Adam.
        critic_learning_rate: of the critics' Adam.
        discount: γ.
        target_rate: τ, by which the targets move towards their sources.
        policy_delay: updates of the critics an update of the policy.
        smoothing_std: σ of the noise on the target policy's actions.
        smoothing_clip: c, its largest size.
        replay_capacity: transitions that are kept.
        batch_size: transitions an update.
        learning_starts: environment steps before the first update.
        updates_per_step: updates of the critics per environment step after that, fractions included.
        reward: variable of the rewards.
        seed: root seed of the draws from the buffer and of the smoothing.

    Raises:
        ConfigurationError: a value out of its range, or a critic that does not fit.
    """

    policy_objective: Tensor

    def __init__(
        self,
        policy: DeterministicPolicy,
        critic: QEnsemble,
        policy_learning_rate: float = 3e-4,
        critic_learning_rate: float = 3e-4,
        discount: float = 0.99,
        target_rate: float = 0.005,
        policy_delay: int = 2,
        smoothing_std: float = 0.2,
        smoothing_clip: float = 0.5,
        replay_capacity: int = 1_000_000,
        batch_size: int = 256,
        learning_starts: int = 1000,
        updates_per_step: float = 1.0,
        reward: str = "env/reward",
        seed: int = 0,
    ) -> None:
        super().__init__()
        ABOVE_0.check(policy_learning_rate=policy_learning_rate, critic_learning_rate=critic_learning_rate)
        ABOVE_0_TO_1.check(target_rate=target_rate)
        AT_LEAST_1.check(policy_delay=policy_delay)
        AT_LEAST_0.check(smoothing_std=smoothing_std, smoothing_clip=smoothing_clip)
        check_q_critic("TD3", policy, critic)
        self.policy = policy
        self.critic = critic
        self.target_policy = copy.deepcopy(policy).requires_grad_(False)
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
        self.register_buffer("policy_objective", torch.zeros(()))
        self._target_rate = target_rate
        self._policy_delay = policy_delay
        self._smoothing_std = smoothing_std
        self._smoothing_clip = smoothing_clip
        self._replayed = ReplayedBatches(
            policy,
            capacity=replay_capacity,
            batch_size=batch_size,
            learning_starts=learning_starts,
            updates_per_step=updates_per_step,
            discount=discount,
            reward=reward,
            seed=seed,
        )
        self.reads = self._replayed.reads
        self._generator = torch_generator(seed, "learner", "smoothing")
        self._sources = [*policy.parameters(), *critic.parameters()]
        self._targets = [*self.target_policy.parameters(), *self.target_critic.parameters()]
        self._policy_parameters = list(policy.parameters())
        self._policy_optimizer = torch.optim.Adam(self._policy_parameters, policy_learning_rate, fused=True)
        self._critic_optimizer = torch.optim.Adam(critic.parameters(), critic_learning_rate, fused=True)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        metrics: Metrics = {}
        for batch in self._replayed.take(workspace, progress):
            critic_loss, q_values = self.critic_loss(batch, self._draw_noise(batch))
            self._critic_optimizer.zero_grad()
            backward(critic_loss)
            self._critic_optimizer.step()

            if self._replayed.n_updates % self._policy_delay == 0:
                policy_loss = self.policy_loss(batch)
                self._policy_optimizer.zero_grad()
                backward(policy_loss, inputs=self._policy_parameters)
                self._policy_optimizer.step()
                self.policy_objective = policy_loss.detach()
                polyak_update(self._targets, self._sources, self._target_rate)

            metrics = {
                "losses/q": critic_loss.detach(),
                "losses/policy": self.policy_objective,
                "learner/q_mean": q_values.mean(),
                "learner/updates": float(self._replayed.n_updates),
            }
        return metrics

    def _draw_noise(self, batch: Batch) -> Tensor:
        shape = (len(batch.rewards), self.policy.bounds.n_components)
        return torch.randn(shape, generator=self._generator).to(batch.rewards.device)

    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the critics' losses, and the values that they give, detached, ``[M, N]``.

        Args:
            batch: N transitions.
            noise: standard normal, ``[N, D]``.
        """
        with torch.no_grad():
            smoothing = (self._smoothing_std * noise).clamp(-self._smoothing_clip, self._smoothing_clip)
            next_actions = (self.target_policy.unit_actions(batch.next_observations) + smoothing).clamp(-1.0, 1.0)
            next_values = self.target_critic.values(batch.next_observations, next_actions).amin(dim=0)
            target = q_target(batch.rewards, batch.terminated, batch.discounts, next_values)
        values = self.critic.values(batch.observations, self.policy.bounds.to_unit(batch.actions[0]))
        return 0.5 * (values - target).square().mean(dim=1).sum(), values.detach()

    def policy_loss(self, batch: Batch) -> Tensor:
        """The policy's loss: the first critic's value of its actions, with the other sign."""
        return -self.critic.values(batch.observations, self.policy.unit_actions(batch.observations))[0].mean()
