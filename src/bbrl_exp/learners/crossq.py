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

import torch
from torch import Tensor
from torch.autograd import backward

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_1, FINITE, FROM_0_BELOW_1, check_unused
from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import q_target
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.q_critics import check_q_critic
from bbrl_exp.learners.parts.replayed import ReplayedBatches
from bbrl_exp.learners.parts.temperature import Temperature
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.seeding import torch_generator
from bbrl_exp.workspace import Workspace


class CrossQ(Learner):
    """Learns a stochastic policy, batch-normalised critics and the temperature from a replay buffer.

    Args:
        policy: the policy that chooses the actions.
        critic: critics of state and action with ``normalization: batch``, two in the paper.
        policy_delay: updates of the critics an update of the policy and the temperature.
        first_moment_decay: β₁ of the Adam of policy and critics.
        policy_learning_rate: of the policy's Adam.
        critic_learning_rate: of the critics' Adam.
        temperature_learning_rate: of the temperature's Adam; None keeps the temperature as it is.
        initial_temperature: α in the beginning.
        target_entropy: H in nats, for actions in [-1, 1]; None for -D.
        discount: γ.
        replay_capacity: transitions that are kept.
        batch_size: transitions an update.
        learning_starts: environment steps before the first update.
        updates_per_step: updates of the critics per environment step after that, fractions included.
        reward: variable of the rewards.
        seed: root seed of the draws from the buffer and of the actions in updates.

    Raises:
        ConfigurationError: a value out of its range, options that contradict each other, or a critic that does not fit.
    """

    policy_objective: Tensor
    entropy: Tensor

    def __init__(
        self,
        policy: SquashedNormalPolicy,
        critic: QEnsemble,
        policy_delay: int = 3,
        first_moment_decay: float = 0.5,
        policy_learning_rate: float = 1e-3,
        critic_learning_rate: float = 1e-3,
        temperature_learning_rate: float | None = 1e-3,
        initial_temperature: float = 1.0,
        target_entropy: float | None = None,
        discount: float = 0.99,
        replay_capacity: int = 1_000_000,
        batch_size: int = 256,
        learning_starts: int = 1000,
        updates_per_step: float = 1.0,
        reward: str = "env/reward",
        seed: int = 0,
    ) -> None:
        super().__init__()
        ABOVE_0.check(policy_learning_rate=policy_learning_rate, critic_learning_rate=critic_learning_rate)
        FROM_0_BELOW_1.check(first_moment_decay=first_moment_decay)
        AT_LEAST_1.check(policy_delay=policy_delay)
        if not critic.network.renormalizations:
            raise ConfigurationError("critic.normalization: CrossQ needs 'batch'")
        FINITE.check(target_entropy=target_entropy)
        if temperature_learning_rate is None:
            check_unused("temperature_learning_rate=null", target_entropy=target_entropy)
        check_q_critic("CrossQ", policy, critic, has_batch_normalization=True)
        self.policy = policy
        self.critic = critic.eval()
        self._policy_delay = policy_delay
        entropy = -float(policy.bounds.n_components) if target_entropy is None else target_entropy
        self.temperature = Temperature(initial_temperature, temperature_learning_rate, entropy)
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
        self.register_buffer("policy_objective", torch.zeros(()))
        self.register_buffer("entropy", torch.zeros(()))
        decays = (first_moment_decay, 0.999)
        self._policy_parameters = list(policy.parameters())
        self._policy_optimizer = torch.optim.Adam(self._policy_parameters, policy_learning_rate, decays, fused=True)
        self._critic_optimizer = torch.optim.Adam(critic.parameters(), critic_learning_rate, decays, fused=True)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        metrics: Metrics = {}
        for batch in self._replayed.take(workspace, progress):
            critic_loss, q_values = self.critic_loss(batch, self._draw_noise(batch))
            self._critic_optimizer.zero_grad()
            backward(critic_loss)
            self._critic_optimizer.step()

            if self._replayed.n_updates % self._policy_delay == 0:
                self._improve_policy(batch)

            metrics = {
                "losses/q": critic_loss.detach(),
                "losses/policy": self.policy_objective,
                "learner/q_mean": q_values.mean(),
                "learner/entropy": self.entropy,
                "learner/temperature": self.temperature.value,
                "learner/updates": float(self._replayed.n_updates),
            }
        return metrics

    def _improve_policy(self, batch: Batch) -> None:
        policy_loss, log_probs = self.policy_loss(batch, self._draw_noise(batch))
        self._policy_optimizer.zero_grad()
        backward(policy_loss, inputs=self._policy_parameters)
        self._policy_optimizer.step()
        self.temperature.adapt(log_probs)
        self.policy_objective, self.entropy = policy_loss.detach(), -log_probs.mean()

    def _draw_noise(self, batch: Batch) -> Tensor:
        shape = (len(batch.rewards), self.policy.bounds.n_components)
        return torch.randn(shape, generator=self._generator).to(batch.rewards.device)

    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the critics' losses, and the values that they give, detached, ``[M, N]``.

        Args:
            batch: N transitions.
            noise: standard normal, ``[N, D]``, of the next actions.
        """
        with torch.no_grad():
            following = self.policy.sample(batch.next_observations, noise)
            actions = torch.cat((self.policy.bounds.to_unit(batch.actions[0]), following.action))
            both_ends = [torch.cat(ends) for ends in zip(batch.observations, batch.next_observations, strict=True)]
        self.critic.train()
        values, next_values = self.critic.values(both_ends, actions).chunk(2, dim=1)
        self.critic.eval()
        soft_values = next_values.detach().amin(dim=0) - self.temperature.value * following.log_prob
        target = q_target(batch.rewards, batch.terminated, batch.discounts, soft_values)
        return 0.5 * (values - target).square().mean(dim=1).sum(), values.detach()

    def policy_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's loss, and the log-densities of its actions, detached, ``[N]``.

        Args:
            batch: N transitions.
            noise: standard normal, ``[N, D]``, of the actions.
        """
        drawn = self.policy.sample(batch.observations, noise)
        values = self.critic.values(batch.observations, drawn.action).amin(dim=0)
        loss = (self.temperature.value * drawn.log_prob - values).mean()
        return loss, drawn.log_prob.detach()
