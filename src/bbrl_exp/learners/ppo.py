"""Proximal policy optimisation (Schulman et al., 2017, arXiv:1707.06347).

Each chunk of experience is used for several epochs of minibatches. With the probability ratio r = π(a|s) / π_old(a|s)
and the generalised advantage estimate A, the policy maximises one of

    E[min(r A, clip(r, 1 − ε, 1 + ε) A)]      objective: clip      (equation 7)
    E[r A − β KL(π_old ‖ π)]                  objective: kl        (equation 8, β adapted as in section 4)

plus an entropy bonus, while the critic minimises half the squared error to A + V_old.

Deviations from the paper: advantages are normalised in each minibatch; the gradient is clipped by its norm; the
critic's loss has the factor ½, and may be clipped; an update may stop early at a divergence (``target_kl``); the
divergence is estimated from the actions taken; β stays between 1e-6 and 1e6; an episode that a time limit cuts keeps
its bootstrap, as in the paper only one that the end of a chunk cuts. The learning rate and ε may fall linearly to zero,
as in its Atari experiments.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_0, AT_LEAST_1, FROM_0_TO_1, check_unused
from bbrl_exp.data.minibatches import parts
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import (
    approximate_kl,
    clip_fraction,
    clipped_surrogate,
    clipped_value,
    explained_variance,
)
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.samples import Samples, collect_samples
from bbrl_exp.nn.distributions import ActionDistribution
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.observation import check_same_observations
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import Critic
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace

# Without bounds, a policy that hardly moves would halve β to 0, from where doubling leads nowhere.
_SMALLEST_KL_WEIGHT, _LARGEST_KL_WEIGHT = 1e-6, 1e6


class Loss(NamedTuple):
    """The loss of a minibatch of N samples and its parts, tensors without dimensions but for ``log_probs``, ``[N]``."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    log_probs: Tensor
    samples: Samples


class PPO(Learner):
    """Learns a stochastic policy and a critic from each chunk, which is then thrown away.

    Args:
        policy: the policy that chooses the actions.
        critic: the critic of states.
        objective: ``clip`` or ``kl``.
        learning_rate: of Adam.
        anneal_learning_rate: whether it falls linearly to zero over the run.
        discount: γ.
        trace_decay: λ of the advantages.
        n_epochs: passes over a chunk.
        n_minibatches: parts of a pass, evenly sized; one a sample where there are fewer samples.
        clip_range: ε of the ratio (0.2); with ``clip`` only.
        anneal_clip_range: whether ε falls linearly to zero over the run; with ``clip`` only.
        value_clip_range: how far a value may move from what it was; None for no limit.
        kl_weight: initial β (1); with ``kl`` only.
        kl_target: divergence that β is adapted to, in nats (0.01); with ``kl`` only.
        target_kl: divergence from the policy that acted, beyond 1.5 times which the update of a chunk ends, in nats;
            None for never.
        entropy_weight: of the entropy bonus.
        value_weight: of the critic's loss.
        max_grad_norm: largest norm of the gradient.
        normalize_advantages: whether each minibatch has advantages of mean 0 and standard deviation 1.
        reward: variable of the rewards.
        seed: root seed of the minibatches.

    Raises:
        ConfigurationError: a value out of its range, an option of the other objective, or a critic that sees other
            variables than the policy.
    """

    def __init__(
        self,
        policy: StochasticPolicy,
        critic: Critic,
        objective: Literal["clip", "kl"] = "clip",
        learning_rate: float = 3e-4,
        anneal_learning_rate: bool = False,
        discount: float = 0.99,
        trace_decay: float = 0.95,
        n_epochs: int = 4,
        n_minibatches: int = 4,
        clip_range: float | None = None,
        anneal_clip_range: bool = False,
        value_clip_range: float | None = None,
        kl_weight: float | None = None,
        kl_target: float | None = None,
        target_kl: float | None = None,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        max_grad_norm: float = 0.5,
        normalize_advantages: bool = True,
        reward: str = "env/reward",
        seed: int = 0,
    ) -> None:
        super().__init__()
        AT_LEAST_1.check(n_epochs=n_epochs, n_minibatches=n_minibatches)
        ABOVE_0.check(learning_rate=learning_rate, max_grad_norm=max_grad_norm, target_kl=target_kl)
        ABOVE_0.check(clip_range=clip_range, value_clip_range=value_clip_range)
        ABOVE_0.check(kl_weight=kl_weight, kl_target=kl_target)
        FROM_0_TO_1.check(discount=discount, trace_decay=trace_decay)
        AT_LEAST_0.check(entropy_weight=entropy_weight, value_weight=value_weight)
        if objective not in ("clip", "kl"):
            raise ConfigurationError(f"objective='{objective}': clip or kl")
        if objective == "clip":
            check_unused("objective='clip'", kl_weight=kl_weight, kl_target=kl_target)
        else:
            check_unused("objective='kl'", clip_range=clip_range, anneal_clip_range=anneal_clip_range)
        check_same_observations(policy.features, critic.features)
        self.policy = policy
        self.critic = critic
        self.reads = (*policy.reads, *policy.writes, reward, "env/terminated", "env/truncated", "env/done")
        self._is_clipped = objective == "clip"
        self._learning_rate = learning_rate
        self._anneals = anneal_learning_rate
        self._anneals_clip_range = anneal_clip_range
        switches = {"anneal_learning_rate": anneal_learning_rate, "anneal_clip_range": anneal_clip_range}
        self.schedules = tuple(name for name, is_on in switches.items() if is_on)
        self._discount = discount
        self._trace_decay = trace_decay
        self._n_epochs = n_epochs
        self._n_minibatches = n_minibatches
        self._first_clip_range = self._clip_range = 0.2 if clip_range is None else clip_range
        self._value_clip_range = value_clip_range
        self._kl_weight = 1.0 if kl_weight is None else kl_weight
        self._kl_target = 0.01 if kl_target is None else kl_target
        self._target_kl = target_kl
        self._entropy_weight = entropy_weight
        self._value_weight = value_weight
        self._normalizes = normalize_advantages
        self._reward = reward
        self._behaviour = BehaviourLogProbs()
        self._generator = numpy_generator(seed, "learner", "ppo")
        self._optimizer = FlatOptimizer(
            [*policy.parameters(), *critic.parameters()],
            lambda parameters: torch.optim.Adam(parameters, learning_rate, eps=1e-5, fused=True),
            max_grad_norm,
        )

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses more minibatches than a chunk has samples."""
        n_samples = steps_per_chunk * batch_size
        if self._n_minibatches > n_samples:
            raise ConfigurationError(
                f"n_minibatches={self._n_minibatches}: a chunk has {n_samples} samples; must be at most {n_samples}"
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
        if self._anneals:
            self._optimizer.learning_rate = self._learning_rate * progress.remaining
        if self._anneals_clip_range:
            self._clip_range = self._first_clip_range * progress.remaining
        if not len(samples):
            return {}
        loss, gradient_norm = self._learn(samples)
        if not self._is_clipped:
            self._adapt_kl_weight(samples)
        old_log_probs = loss.samples.log_probs
        of_objective: Metrics = {"learner/kl_weight": self._kl_weight}
        if self._is_clipped:
            clipped = clip_fraction(loss.log_probs, old_log_probs, self._clip_range).detach()
            of_objective = {"learner/clip_fraction": clipped}
        return {
            "losses/policy": loss.policy.detach(),
            "losses/value": loss.value.detach(),
            "learner/entropy": loss.entropy.detach(),
            "learner/approximate_kl": approximate_kl(loss.log_probs, old_log_probs).mean().detach(),
            **of_objective,
            "learner/explained_variance": explained_variance(samples.values, samples.returns),
            "learner/gradient_norm": gradient_norm,
            "learner/learning_rate": self._optimizer.learning_rate,
        }

    def loss(self, samples: Samples) -> Loss:
        """The loss of a minibatch."""
        latent = self.policy.latent(samples.observations)
        return self.loss_of(
            samples, self.policy.distribution_of(latent), self.critic.values(samples.observations, latent)
        )

    def loss_of(self, samples: Samples, distribution: ActionDistribution, values: Tensor) -> Loss:
        """The loss of a minibatch of N samples, for the policy and the critic as they are now.

        Args:
            samples: the minibatch.
            distribution: over actions, for its observations.
            values: of its observations, ``[N]``.
        """
        log_probs = distribution.log_prob(samples.actions)
        advantages = samples.advantages
        if self._normalizes and len(samples) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        if self._is_clipped:
            policy_loss = clipped_surrogate(log_probs, samples.log_probs, advantages, self._clip_range).mean()
        else:
            ratios = (log_probs - samples.log_probs).exp()
            divergence = approximate_kl(log_probs, samples.log_probs).mean()
            policy_loss = self._kl_weight * divergence - (ratios * advantages).mean()
        if self._value_clip_range is None:
            value_loss = 0.5 * mse_loss(values, samples.returns)
        else:
            value_loss = 0.5 * clipped_value(values, samples.values, samples.returns, self._value_clip_range).mean()
        entropy = distribution.entropy().mean()
        total = policy_loss + self._value_weight * value_loss - self._entropy_weight * entropy
        return Loss(total, policy_loss, value_loss, entropy, log_probs, samples)

    def _learn(self, samples: Samples) -> tuple[Loss, Tensor]:
        """The epochs of one chunk; gives the last minibatch's loss and the norm of its gradient."""
        gradient_norm = torch.zeros(())
        for _ in range(self._n_epochs):
            for indexes in parts(len(samples), self._n_minibatches, self._generator, samples.returns.device):
                loss = self.loss(samples.select(indexes))
                if self._target_kl is not None and self._divergence(loss) > 1.5 * self._target_kl:
                    return loss, gradient_norm
                gradient_norm = self._optimizer.step(loss.total)
        return loss, gradient_norm

    @torch.no_grad()
    def _adapt_kl_weight(self, samples: Samples) -> None:
        divergence = self._divergence(self.loss(samples))
        if divergence > 1.5 * self._kl_target:
            self._kl_weight = min(2 * self._kl_weight, _LARGEST_KL_WEIGHT)
        elif divergence < self._kl_target / 1.5:
            self._kl_weight = max(self._kl_weight / 2, _SMALLEST_KL_WEIGHT)

    @staticmethod
    def _divergence(loss: Loss) -> float:
        return float(approximate_kl(loss.log_probs.detach(), loss.samples.log_probs).mean())
