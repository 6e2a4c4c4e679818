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

import copy

import torch
from torch import Tensor
from torch.autograd import backward

from bbrl_exp.arguments import ABOVE_0, ABOVE_0_TO_1, FINITE, check_unused
from bbrl_exp.data.replay import Batch
from bbrl_exp.functional.losses import q_target
from bbrl_exp.functional.targets import polyak_update
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.q_critics import check_q_critic
from bbrl_exp.learners.parts.replayed import ReplayedBatches
from bbrl_exp.learners.parts.temperature import Temperature
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.seeding import torch_generator
from bbrl_exp.workspace import Workspace


class SAC(Learner):
    """Learns a stochastic policy, several critics and the temperature from a replay buffer.

    Args:
        policy: the policy that chooses the actions.
        critic: critics of state and action, two in the paper.
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
        FINITE.check(target_entropy=target_entropy)
        if temperature_learning_rate is None:
            check_unused("temperature_learning_rate=null", target_entropy=target_entropy)
        check_q_critic("SAC", policy, critic)
        self.policy = policy
        self.critic = critic
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
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
            critic_loss, q_values = self.critic_loss(batch, self._draw_noise(batch))
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
                "learner/q_mean": q_values.mean(),
                "learner/entropy": -log_probs.mean(),
                "learner/temperature": self.temperature.value,
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
            noise: standard normal, ``[N, D]``, of the next actions.
        """
        with torch.no_grad():
            following = self.policy.sample(batch.next_observations, noise)
            next_values = self.target_critic.values(batch.next_observations, following.action).amin(dim=0)
            soft_values = next_values - self.temperature.value * following.log_prob
            target = q_target(batch.rewards, batch.terminated, batch.discounts, soft_values)
        values = self.critic.values(batch.observations, self.policy.bounds.to_unit(batch.actions[0]))
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
