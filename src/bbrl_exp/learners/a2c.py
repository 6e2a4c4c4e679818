"""Advantage actor-critic (Mnih et al., 2016, arXiv:1602.01783, algorithm S3, synchronous).

One step of gradient descent for each chunk, on all its transitions at once:

    −E[ρ log π(a|s) A] + c_v ½ E[(G − V(s))²] − c_e E[H(π(·|s))]

with the generalised advantage estimate A (its n-step form at λ = 1) and G = A + V. ρ is 1 but in the first row of a
chunk, whose action the policy chose before the last update: there it is min(1, π(a|s) / π_old(a|s)) (Espeholt et al.,
2018, arXiv:1802.01561, section 4.1).

Deviations from the paper: environments step in one batch instead of asynchronous threads; λ may be below 1; the
gradient is the mean over transitions, not the sum, and clipped by its norm; the critic's loss has the factor ½ and a
weight; RMSprop's ε is that of OpenAI Baselines; an episode that a time limit cuts keeps its bootstrap. The advantages
are not normalised.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_0, FROM_0_TO_1
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import explained_variance, policy_gradient, truncated_ratios
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.samples import Samples, collect_samples
from bbrl_exp.nn.distributions import ActionDistribution
from bbrl_exp.nn.flat_optimizer import FlatOptimizer, MakeOptimizer
from bbrl_exp.policies.observation import check_same_observations
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import Critic
from bbrl_exp.workspace import Workspace


class Loss(NamedTuple):
    """The loss of N samples and its parts, tensors without dimensions."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor


class A2C(Learner):
    """Learns a stochastic policy and a critic by one step a chunk.

    Args:
        policy: the policy that chooses the actions.
        critic: the critic of states.
        optimizer: ``rmsprop`` (decay 0.99, as in the paper, and ε 1e-5) or ``adam`` (ε 1e-5).
        learning_rate: of the optimizer.
        anneal_learning_rate: whether it falls linearly to zero over the run.
        discount: γ.
        trace_decay: λ of the advantages.
        entropy_weight: c_e.
        value_weight: c_v.
        max_grad_norm: largest norm of the gradient.
        reward: variable of the rewards.

    Raises:
        ConfigurationError: a value out of its range, or a critic that sees other variables than the policy.
    """

    def __init__(
        self,
        policy: StochasticPolicy,
        critic: Critic,
        optimizer: Literal["rmsprop", "adam"] = "rmsprop",
        learning_rate: float = 7e-4,
        anneal_learning_rate: bool = False,
        discount: float = 0.99,
        trace_decay: float = 1.0,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        max_grad_norm: float = 0.5,
        reward: str = "env/reward",
    ) -> None:
        super().__init__()
        ABOVE_0.check(learning_rate=learning_rate, max_grad_norm=max_grad_norm)
        FROM_0_TO_1.check(discount=discount, trace_decay=trace_decay)
        AT_LEAST_0.check(entropy_weight=entropy_weight, value_weight=value_weight)
        check_same_observations(policy.features, critic.features)
        self.policy = policy
        self.critic = critic
        self.reads = (*policy.reads, *policy.writes, reward, "env/terminated", "env/truncated", "env/done")
        self._learning_rate = learning_rate
        self._anneals = anneal_learning_rate
        self.schedules = ("anneal_learning_rate",) if anneal_learning_rate else ()
        self._discount = discount
        self._trace_decay = trace_decay
        self._entropy_weight = entropy_weight
        self._value_weight = value_weight
        self._reward = reward
        self._behaviour = BehaviourLogProbs()
        self._optimizer = FlatOptimizer(
            [*policy.parameters(), *critic.parameters()], _maker(optimizer, learning_rate), max_grad_norm
        )

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        samples = collect_samples(
            workspace,
            progress,
            self.policy,
            self.critic,
            self._behaviour,
            discount=self._discount,
            trace_decay=self._trace_decay,
            reward=self._reward,
        )
        if not len(samples):
            return {}
        if self._anneals:
            self._optimizer.learning_rate = self._learning_rate * progress.remaining
        loss = self.loss(samples)
        gradient_norm = self._optimizer.step(loss.total)
        return {
            "losses/policy": loss.policy.detach(),
            "losses/value": loss.value.detach(),
            "learner/entropy": loss.entropy.detach(),
            "learner/explained_variance": explained_variance(samples.values, samples.returns),
            "learner/gradient_norm": gradient_norm,
            "learner/learning_rate": self._optimizer.learning_rate,
        }

    def loss(self, samples: Samples) -> Loss:
        """The loss of N samples, for the policy and the critic as they are now."""
        latent = self.policy.latent(samples.observations)
        return self.loss_of(
            samples, self.policy.distribution_of(latent), self.critic.values(samples.observations, latent)
        )

    def loss_of(self, samples: Samples, distribution: ActionDistribution, values: Tensor) -> Loss:
        """The loss of N samples.

        Args:
            samples: what was experienced.
            distribution: over actions, for its observations.
            values: of its observations, ``[N]``.
        """
        log_probs = distribution.log_prob(samples.actions)
        weights = truncated_ratios(log_probs, samples.log_probs)
        policy_loss = policy_gradient(log_probs, weights * samples.advantages).mean()
        value_loss = 0.5 * mse_loss(values, samples.returns)
        entropy = distribution.entropy().mean()
        total = policy_loss + self._value_weight * value_loss - self._entropy_weight * entropy
        return Loss(total, policy_loss, value_loss, entropy)


def _maker(optimizer: str, learning_rate: float) -> MakeOptimizer:
    if optimizer not in ("rmsprop", "adam"):
        raise ConfigurationError(f"optimizer='{optimizer}': must be one of rmsprop, adam")
    if optimizer == "adam":
        return lambda parameters: torch.optim.Adam(parameters, learning_rate, eps=1e-5, fused=True)
    return lambda parameters: torch.optim.RMSprop(parameters, learning_rate, alpha=0.99, eps=1e-5)
