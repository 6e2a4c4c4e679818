"""The update of proximal policy optimisation: several epochs of minibatches for each chunk."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZero, Count, FromZeroToOne, Scheduled, check_unused
from bbrl_exp.data.transitions import parts
from bbrl_exp.functional.losses import approximate_kl, clip_fraction
from bbrl_exp.functional.schedules import before_the_run
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.on_policy import Experience, Loss, OnPolicyActorCritic
from bbrl_exp.learners.parts.options import adam
from bbrl_exp.workspace import Workspace


class ProximalUpdate(OnPolicyActorCritic[Experience]):
    """Several epochs of minibatches for each chunk, in which the policy stays near the one that acted."""

    n_epochs: Count = 4
    """passes over a chunk."""
    n_minibatches: Count = 4
    """minibatches per epoch, evenly sized (at most one per sample, or per sequence)."""
    clip_range: Scheduled[AboveZero] | None = None
    """ε of the ratio."""
    anneal_clip_range: bool = False
    """whether ε falls linearly to zero over the run."""
    target_kl: Scheduled[AboveZero] | None = None
    """divergence from the policy that acted, beyond 1.5 times which the update of a chunk ends, in nats; None for
    never.
    """
    normalize_advantages: bool = True
    """whether each minibatch has advantages of mean 0 and standard deviation 1."""
    seed: int = 0
    """root seed of the minibatches."""
    trace_decay: Scheduled[FromZeroToOne] = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        self._optimizer = self.flat_optimizer(self.parameters(), adam(epsilon=1e-5))
        self._generator: np.random.Generator  # is each algorithm's own
        if "clip_range" in self._scheduled:
            check_unused("a schedule of clip_range", anneal_clip_range=self.anneal_clip_range)
        if self.anneal_clip_range:
            self.schedules = (*self.schedules, "anneal_clip_range")
        self._clip_range = 0.2 if self.clip_range is None else before_the_run(self.clip_range, 0.2)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        experience = self.collect(workspace, progress)
        learning_rate = self.begin_step(self._optimizer, progress)
        self.set_clip_range(progress)
        loss, gradient_norm = self.learn(experience)
        if loss is None:
            return {}
        divergence = approximate_kl(loss.log_probs, loss.samples.log_probs).mean().detach()
        others = {"learner/approximate_kl": divergence, **self.after_epochs(loss, experience)}
        return self.metrics_of(loss, experience, gradient_norm, learning_rate, others)

    def set_clip_range(self, progress: Progress) -> None:
        """Sets ε for an update."""
        clip_range = 0.2 if self.clip_range is None else self.clip_range
        self._clip_range = clip_range * progress.remaining if self.anneal_clip_range else clip_range

    @abstractmethod
    def after_epochs(self, loss: Loss, experience: Experience) -> Metrics:
        """What is to be done after the epochs of a chunk, whose last loss is given, and metrics of the objective."""

    def clip_fraction(self, loss: Loss) -> Metrics:
        """The part of the ratios that are clipped, as a metric."""
        fraction = clip_fraction(loss.log_probs, loss.samples.log_probs, self._clip_range)
        return {"learner/clip_fraction": fraction.detach()}

    def divergence(self, loss: Loss) -> float:
        """KL(π_old, π), as estimated from the samples of a loss."""
        return float(approximate_kl(loss.log_probs.detach(), loss.samples.log_probs).mean())

    def learn(self, experience: Experience) -> tuple[Loss | None, Tensor]:
        """The epochs of one chunk; gives the last minibatch's loss and the norm of its gradient."""
        loss, gradient_norm, device = None, torch.zeros(()), experience.returns.device
        for _ in range(self.n_epochs if len(experience) else 0):
            for indexes in parts(len(experience), self.n_minibatches, self._generator, device):
                minibatch = experience.select(indexes)
                if not len(minibatch.steps()):
                    continue
                loss = self.loss(minibatch)
                if self.target_kl is not None and self.divergence(loss) > 1.5 * self.target_kl:
                    return loss, gradient_norm
                gradient_norm = self._optimizer.step(loss.total)
        return loss, gradient_norm
