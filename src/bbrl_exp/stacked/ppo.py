"""Proximal policy optimisation of K jobs that learn together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.functional.losses import approximate_kl, clipped_surrogate, clipped_value
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.ppo import PPO
from bbrl_exp.stacked.actor_critic import StackedActorCritic, Step
from bbrl_exp.stacked.samples import StackedSamples, stacked_parts


class StackedPPO(StackedActorCritic[PPO]):
    """K times :class:`~bbrl_exp.learners.ppo.PPO` with the clipped objective."""

    def __init__(self, learners: Sequence[PPO]) -> None:
        super().__init__(learners)
        self.normalizes = learners[0].normalize_advantages

    def _steps(self, samples: StackedSamples, jobs: Sequence[int], progress: Progress) -> Step:
        first, last, left = self._first, None, set(jobs)
        for learner in self._learners:
            learner.set_clip_range(progress)
        counts = samples.is_sample.sum(dim=1).int().tolist()
        largest = -(-samples.returns.shape[1] // first.n_minibatches)
        generators = [learner._generator for learner in self._learners]
        for _ in range(first.n_epochs):
            taking = [count if job in left else 0 for job, count in enumerate(counts)]
            for indexes, is_sample, of_part in stacked_parts(taking, first.n_minibatches, generators, largest):
                active = [job for job in of_part if job in left]
                if active:
                    self._stopped: list[int] = []
                    last = self._step(samples.select(indexes, is_sample), active, last).for_jobs(active, last)
                    left -= set(self._stopped)
        assert last is not None
        return last

    def _policy_losses(self, log_probs: Tensor, samples: StackedSamples, advantages: Tensor) -> Tensor:
        clip_range = self._of_samples([learner._clip_range for learner in self._learners], samples)
        return clipped_surrogate(log_probs, samples.log_probs.flatten(), advantages, clip_range)

    def _value_losses(self, values: Tensor, samples: StackedSamples) -> Tensor:
        limits = [learner.value_clip_range for learner in self._learners]
        if limits[0] is None:
            return super()._value_losses(values, samples)
        clip_range = self._of_samples([float(limit or 0.0) for limit in limits], samples)
        losses = clipped_value(values.flatten(), samples.values.flatten(), samples.returns.flatten(), clip_range)
        return 0.5 * losses.view_as(values)

    def _continuing(self, step: Step, jobs: Sequence[int]) -> Sequence[int]:
        targets = [learner.target_kl for learner in self._learners]
        if targets[0] is None:
            return jobs
        divergences = self._divergences(step).tolist()
        self._stopped = [job for job in jobs if divergences[job] > 1.5 * (targets[job] or 0.0)]
        return [job for job in jobs if job not in self._stopped]

    def _other_metrics(self, last: Step) -> dict[str, Tensor]:
        limits = torch.tensor([learner._clip_range for learner in self._learners])[:, None]
        is_clipped = ((last.log_probs - last.old_log_probs).exp() - 1.0).abs() > limits
        counts = last.is_sample.sum(dim=1)
        return {
            "learner/approximate_kl": self._divergences(last),
            "learner/clip_fraction": (is_clipped * last.is_sample).sum(dim=1) / counts,
        }

    def _divergences(self, step: Step) -> Tensor:
        """KL(π_old, π) of each job, as estimated from the samples of a step, ``[K]``."""
        estimates = approximate_kl(step.log_probs.flatten(), step.old_log_probs.flatten()).view_as(step.log_probs)
        return (estimates * step.is_sample).sum(dim=1) / step.is_sample.sum(dim=1)

    def _of_samples(self, values: Sequence[float], samples: StackedSamples) -> Tensor:
        """A number of each job for each of its samples, ``[K · M]``."""
        return torch.tensor(values)[:, None].expand_as(samples.returns).flatten()
