"""The update of advantage actor-critic: one step of gradient descent for each chunk, on all its transitions at once."""

from __future__ import annotations

from torch import Tensor

from bbrl_exp.functional.losses import policy_gradient, truncated_ratios
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.on_policy import Experience, Loss, OnPolicyActorCritic
from bbrl_exp.learners.parts.samples import Samples
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.workspace import Workspace


class AdvantageUpdate(OnPolicyActorCritic[Experience]):
    """One step for each chunk; an action of an earlier policy is weighted by the ratio ρ, truncated at 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._optimizer: FlatOptimizer  # is each algorithm's own

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        experience = self.collect(workspace, progress)
        if not len(experience.steps()):
            return {}
        learning_rate = self.begin_step(self._optimizer, progress)
        loss, gradient_norm = self.learn(experience)
        return self.metrics_of(loss, experience, gradient_norm, learning_rate, {})

    def policy_loss(self, log_probs: Tensor, samples: Samples, advantages: Tensor) -> Tensor:
        weights = truncated_ratios(log_probs, samples.log_probs)
        return samples.mean(policy_gradient(log_probs, weights * advantages))

    def learn(self, experience: Experience) -> tuple[Loss, Tensor]:
        """The step; gives the loss and the norm of its gradient."""
        loss = self.loss(experience)
        return loss, self._optimizer.step(loss.total)
