"""Soft actor-critic for discrete actions (Christodoulou, 2019, arXiv:1910.07207, algorithm 1).

SAC in which expectations over the policy's actions are sums. With π the probabilities of the A actions, each critic
minimises

    ½ (Q_i(s, a_taken) - y)²,    y = r + γ Σ_a' π(a'|s') (min_j Q'_j(s', a') - α log π(a'|s')) [s' not terminal]

and the policy minimises Σ_a π(a|s) (α log π(a|s) - min_i Q_i(s, a)); the temperature α is learned from the entropy
Σ_a -π(a|s) log π(a|s), which shall be ``target_entropy_ratio`` of its largest value, log A.

Deviations from the paper: the temperature's loss is of log α, as in its author's code; the ratio is 0.5, because the
paper's 0.98 is hardly less than acting at random; a truncated episode keeps its bootstrap.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from torch.autograd import backward

from bbrl_exp.arguments import ABOVE_0, ABOVE_0_TO_1, FROM_0_BELOW_1, check_unused
from bbrl_exp.data.replay import Batch
from bbrl_exp.functional.losses import q_target
from bbrl_exp.functional.targets import polyak_update
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.q_critics import check_q_critic
from bbrl_exp.learners.parts.replayed import ReplayedBatches
from bbrl_exp.learners.parts.temperature import Temperature
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace


class DiscreteSAC(Learner):
    """Learns a categorical policy, several critics and the temperature from a replay buffer.

    Args:
        policy: the policy that chooses the actions.
        critic: critics of every action, two in the paper.
        policy_learning_rate: of the policy's Adam.
        critic_learning_rate: of the critics' Adam.
        temperature_learning_rate: of the temperature's Adam; None keeps the temperature as it is.
        initial_temperature: α in the beginning.
        target_entropy_ratio: the entropy that is wanted, as a part of log A; None for 0.5.
        discount: γ.
        target_rate: τ, by which the target critics move towards the critics at every update.
        replay_capacity: transitions that are kept.
        batch_size: transitions an update.
        learning_starts: environment steps before the first update.
        updates_per_step: updates per environment step after that, fractions included.
        reward: variable of the rewards.
        seed: root seed of the draws from the buffer.

    Raises:
        ConfigurationError: a value out of its range, options that contradict each other, or a critic that does not fit.
    """

    def __init__(
        self,
        policy: StochasticPolicy,
        critic: DiscreteQEnsemble,
        policy_learning_rate: float = 3e-4,
        critic_learning_rate: float = 3e-4,
        temperature_learning_rate: float | None = 3e-4,
        initial_temperature: float = 1.0,
        target_entropy_ratio: float | None = None,
        discount: float = 0.99,
        target_rate: float = 0.005,
        replay_capacity: int = 1_000_000,
        batch_size: int = 64,
        learning_starts: int = 1000,
        updates_per_step: float = 1.0,
        reward: str = "env/reward",
        seed: int = 0,
    ) -> None:
        super().__init__()
        ABOVE_0.check(policy_learning_rate=policy_learning_rate, critic_learning_rate=critic_learning_rate)
        ABOVE_0_TO_1.check(target_rate=target_rate)
        FROM_0_BELOW_1.check(target_entropy_ratio=target_entropy_ratio)
        if temperature_learning_rate is None:
            check_unused("temperature_learning_rate=null", target_entropy_ratio=target_entropy_ratio)
        ratio = 0.5 if target_entropy_ratio is None else target_entropy_ratio
        check_q_critic("DiscreteSAC", policy, critic)
        self.policy = policy
        self.critic = critic
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
        entropy = ratio * math.log(critic.n_actions)
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
        self._sources = list(critic.parameters())
        self._targets = list(self.target_critic.parameters())
        self._policy_optimizer = torch.optim.Adam(policy.parameters(), policy_learning_rate, fused=True)
        self._critic_optimizer = torch.optim.Adam(critic.parameters(), critic_learning_rate, fused=True)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        metrics: Metrics = {}
        for batch in self._replayed.take(workspace, progress):
            critic_loss, q_values = self.critic_loss(batch)
            self._critic_optimizer.zero_grad()
            backward(critic_loss)
            self._critic_optimizer.step()

            policy_loss, entropies = self.policy_loss(batch)
            self._policy_optimizer.zero_grad()
            backward(policy_loss)
            self._policy_optimizer.step()

            self.temperature.adapt(-entropies)
            polyak_update(self._targets, self._sources, self._target_rate)
            metrics = {
                "losses/q": critic_loss.detach(),
                "losses/policy": policy_loss.detach(),
                "learner/q_mean": q_values.mean(),
                "learner/entropy": entropies.mean(),
                "learner/temperature": self.temperature.value,
                "learner/updates": float(self._replayed.n_updates),
            }
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of the critics' losses, and the values of the actions taken, detached, ``[M, N]``."""
        with torch.no_grad():
            log_probs = self._log_probs(batch.next_observations)
            next_values = self.target_critic.values(batch.next_observations).amin(dim=0)
            soft_values = (log_probs.exp() * (next_values - self.temperature.value * log_probs)).sum(dim=1)
            target = q_target(batch.rewards, batch.terminated, batch.discounts, soft_values)
        values = self.critic.values(batch.observations)
        indexes = (batch.actions[0].long() - self.critic.first_action)[None, :, None].expand(len(values), -1, 1)
        taken = values.gather(2, indexes).squeeze(2)
        return 0.5 * (taken - target).square().mean(dim=1).sum(), taken.detach()

    def policy_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The policy's loss, and its entropies in nats, detached, ``[N]``."""
        with torch.no_grad():
            values = self.critic.values(batch.observations).amin(dim=0)
        log_probs = self._log_probs(batch.observations)
        probabilities = log_probs.exp()
        loss = (probabilities * (self.temperature.value * log_probs - values)).sum(dim=1).mean()
        return loss, -(probabilities * log_probs).sum(dim=1).detach()

    def _log_probs(self, observations: tuple[Tensor, ...]) -> Tensor:
        return self.policy.network(self.policy.features(observations)).log_softmax(dim=1)  # type: ignore[no-any-return]
