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

import copy

import torch
from torch import Tensor
from torch.autograd import backward

from bbrl_exp.arguments import ABOVE_0, ABOVE_0_TO_1
from bbrl_exp.data.replay import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import q_target
from bbrl_exp.functional.targets import polyak_update
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.q_critics import check_q_critic
from bbrl_exp.learners.parts.replayed import ReplayedBatches
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.workspace import Workspace


class DDPG(Learner):
    """Learns a deterministic policy and one critic from a replay buffer.

    Args:
        policy: the policy that chooses the actions.
        critic: one critic of state and action.
        policy_learning_rate: of the policy's Adam.
        critic_learning_rate: of the critic's Adam.
        discount: γ.
        target_rate: τ, by which the targets move towards their sources at every update.
        replay_capacity: transitions that are kept.
        batch_size: transitions an update.
        learning_starts: environment steps before the first update.
        updates_per_step: updates per environment step after that, fractions included.
        reward: variable of the rewards.
        seed: root seed of the draws from the buffer.

    Raises:
        ConfigurationError: a value out of its range, or a critic that does not fit.
    """

    def __init__(
        self,
        policy: DeterministicPolicy,
        critic: QEnsemble,
        policy_learning_rate: float = 1e-4,
        critic_learning_rate: float = 1e-3,
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
        if critic.n_critics != 1:
            raise ConfigurationError(f"critic.n_critics={critic.n_critics}: DDPG has 1 critic; TD3 has several")
        check_q_critic("DDPG", policy, critic)
        self.policy = policy
        self.critic = critic
        self.target_policy = copy.deepcopy(policy).requires_grad_(False)
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
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
        self._sources = [*policy.parameters(), *critic.parameters()]
        self._targets = [*self.target_policy.parameters(), *self.target_critic.parameters()]
        self._policy_parameters = list(policy.parameters())
        self._policy_optimizer = torch.optim.Adam(self._policy_parameters, policy_learning_rate, fused=True)
        self._critic_optimizer = torch.optim.Adam(critic.parameters(), critic_learning_rate, fused=True)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        metrics: Metrics = {}
        for batch in self._replayed.take(workspace, progress):
            critic_loss, q_values = self.critic_loss(batch)
            self._critic_optimizer.zero_grad()
            backward(critic_loss)
            self._critic_optimizer.step()

            policy_loss = self.policy_loss(batch)
            self._policy_optimizer.zero_grad()
            backward(policy_loss, inputs=self._policy_parameters)
            self._policy_optimizer.step()

            polyak_update(self._targets, self._sources, self._target_rate)
            metrics = {
                "losses/q": critic_loss.detach(),
                "losses/policy": policy_loss.detach(),
                "learner/q_mean": q_values.mean(),
                "learner/updates": float(self._replayed.n_updates),
            }
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The critic's loss, and the values that it gives, detached, ``[1, N]``."""
        with torch.no_grad():
            next_actions = self.target_policy.unit_actions(batch.next_observations)
            (next_values,) = self.target_critic.values(batch.next_observations, next_actions)
            target = q_target(batch.rewards, batch.terminated, batch.discounts, next_values)
        values = self.critic.values(batch.observations, self.policy.bounds.to_unit(batch.actions[0]))
        return 0.5 * (values - target).square().mean(), values.detach()

    def policy_loss(self, batch: Batch) -> Tensor:
        """The policy's loss: the value of its actions, with the other sign."""
        return -self.critic.values(batch.observations, self.policy.unit_actions(batch.observations)).mean()
