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

import copy

import torch
from torch import Tensor
from torch.autograd import backward

from bbrl_exp.arguments import ABOVE_0, ABOVE_0_TO_1, FINITE, check_unused
from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import quantile_huber
from bbrl_exp.functional.targets import polyak_update
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.q_critics import check_q_critic
from bbrl_exp.learners.parts.replayed import ReplayedBatches
from bbrl_exp.learners.parts.temperature import Temperature
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.seeding import torch_generator
from bbrl_exp.workspace import Workspace


class TQC(Learner):
    """Learns a stochastic policy, critics of quantiles and the temperature from a replay buffer.

    Args:
        policy: the policy that chooses the actions.
        critic: critics of state and action, five of 25 quantiles in the paper.
        dropped_quantiles: quantiles left out of the targets, for each critic; 0 to 5 in the paper, by the task.
        policy_learning_rate: of the policy's Adam.
        critic_learning_rate: of the critics' Adam.
        temperature_learning_rate: of the temperature's Adam; None keeps the temperature as it is.
        initial_temperature: α in the beginning.
        target_entropy: H in nats, for actions in [-1, 1]; None for -D.
        discount: γ.
        target_rate: τ, by which the target critics move towards the critics at every update.
        replay_capacity: transitions that are kept.
        batch_size: transitions an update.
        learning_starts: environment steps before the first update.
        updates_per_step: updates per environment step after that, fractions included.
        reward: variable of the rewards.
        seed: root seed of the draws from the buffer and of the actions in updates.

    Raises:
        ConfigurationError: a value out of its range, options that contradict each other, or a critic that does not fit.
    """

    def __init__(
        self,
        policy: SquashedNormalPolicy,
        critic: QEnsemble,
        dropped_quantiles: int = 2,
        policy_learning_rate: float = 3e-4,
        critic_learning_rate: float = 3e-4,
        temperature_learning_rate: float | None = 3e-4,
        initial_temperature: float = 1.0,
        target_entropy: float | None = None,
        discount: float = 0.99,
        target_rate: float = 0.005,
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
        if not 0 <= dropped_quantiles < critic.n_quantiles:
            raise ConfigurationError(
                f"dropped_quantiles={dropped_quantiles}: 0 or more, and below critic.n_quantiles={critic.n_quantiles}"
            )
        FINITE.check(target_entropy=target_entropy)
        if temperature_learning_rate is None:
            check_unused("temperature_learning_rate=null", target_entropy=target_entropy)
        check_q_critic("TQC", policy, critic, has_quantiles=True)
        self.policy = policy
        self.critic = critic
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
        self._n_kept = critic.n_critics * (critic.n_quantiles - dropped_quantiles)
        entropy = -float(policy.bounds.n_components) if target_entropy is None else target_entropy
        self.temperature = Temperature(initial_temperature, temperature_learning_rate, entropy)
        self._target_rate = target_rate
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
        self._generator = torch_generator(seed, "learner", "actions")
        self._sources = list(critic.parameters())
        self._targets = list(self.target_critic.parameters())
        self._policy_parameters = list(policy.parameters())
        self._policy_optimizer = torch.optim.Adam(self._policy_parameters, policy_learning_rate, fused=True)
        self._critic_optimizer = torch.optim.Adam(critic.parameters(), critic_learning_rate, fused=True)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        metrics: Metrics = {}
        for batch in self._replayed.take(workspace, progress):
            critic_loss, quantiles = self.critic_loss(batch, self._draw_noise(batch))
            self._critic_optimizer.zero_grad()
            backward(critic_loss)
            self._critic_optimizer.step()

            policy_loss, log_probs = self.policy_loss(batch, self._draw_noise(batch))
            self._policy_optimizer.zero_grad()
            backward(policy_loss, inputs=self._policy_parameters)
            self._policy_optimizer.step()

            self.temperature.adapt(log_probs)
            polyak_update(self._targets, self._sources, self._target_rate)
            metrics = {
                "losses/q": critic_loss.detach(),
                "losses/policy": policy_loss.detach(),
                "learner/q_mean": quantiles.mean(),
                "learner/entropy": -log_probs.mean(),
                "learner/temperature": self.temperature.value,
                "learner/updates": float(self._replayed.n_updates),
            }
        return metrics

    def _draw_noise(self, batch: Batch) -> Tensor:
        shape = (len(batch.rewards), self.policy.bounds.n_components)
        return torch.randn(shape, generator=self._generator).to(batch.rewards.device)

    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the critics' losses, and the quantiles that they give, detached, ``[M, N, K]``.

        Args:
            batch: N transitions.
            noise: standard normal, ``[N, D]``, of the next actions.
        """
        with torch.no_grad():
            following = self.policy.sample(batch.next_observations, noise)
            next_quantiles = self.target_critic.quantiles(batch.next_observations, following.action)
            kept = next_quantiles.transpose(0, 1).flatten(1).sort(dim=1).values[:, : self._n_kept]
            soft = kept - self.temperature.value * following.log_prob[:, None]
            discounts = batch.discounts.masked_fill(batch.terminated, 0.0)
            targets = batch.rewards[:, None] + discounts[:, None] * soft
        quantiles = self.critic.quantiles(batch.observations, self.policy.bounds.to_unit(batch.actions[0]))
        losses = [quantile_huber(of_one_critic, targets).mean() for of_one_critic in quantiles]
        return torch.stack(losses).sum(), quantiles.detach()

    def policy_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's loss, and the log-densities of its actions, detached, ``[N]``.

        Args:
            batch: N transitions.
            noise: standard normal, ``[N, D]``, of the actions.
        """
        drawn = self.policy.sample(batch.observations, noise)
        values = self.critic.values(batch.observations, drawn.action).mean(dim=0)
        loss = (self.temperature.value * drawn.log_prob - values).mean()
        return loss, drawn.log_prob.detach()
