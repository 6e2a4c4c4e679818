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

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZero, Scheduled, check_unused
from bbrl_exp.compilation.compiler import Compiler, NotCompilableError
from bbrl_exp.data.transitions import parts
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import approximate_kl, clipped_surrogate, clipped_value
from bbrl_exp.learners.compiled.batches import check_can_be_filled_up
from bbrl_exp.learners.compiled.updates import CompiledUpdates, updates_per_graph
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.on_policy import Loss, OfSamples
from bbrl_exp.learners.parts.proximal_update import ProximalUpdate
from bbrl_exp.learners.parts.samples import Samples
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace

# Without bounds, a policy that hardly moves would halve β to 0, from where doubling leads nowhere.
_SMALLEST_KL_WEIGHT, _LARGEST_KL_WEIGHT = 1e-6, 1e6


class PPO(ProximalUpdate[Samples], OfSamples):
    """Learns a stochastic policy and a critic from each chunk, which is then thrown away.

    Raises:
        ConfigurationError: a value out of its range, an option of the other objective, or a critic that sees other
            variables than the policy.
    """

    objective: Literal["clip", "kl"] = "clip"
    """``clip`` or ``kl``."""
    learning_rate: Scheduled[AboveZero] = 3e-4
    clip_range: Scheduled[AboveZero] | None = None
    """ε of the ratio (0.2); with ``clip`` only."""
    anneal_clip_range: bool = False
    """whether ε falls linearly to zero over the run; with ``clip`` only."""
    value_clip_range: Scheduled[AboveZero] | None = None
    """how far a value may move from what it was; None for no limit."""
    kl_weight: AboveZero | None = None
    """initial β (1); with ``kl`` only."""
    kl_target: Scheduled[AboveZero] | None = None
    """divergence that β is adapted to, in nats (0.01); with ``kl`` only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in ("clip", "kl"):
            raise ConfigurationError(f"objective='{self.objective}': clip or kl")
        self._is_clipped = self.objective == "clip"
        if self._is_clipped:
            check_unused("objective='clip'", kl_weight=self.kl_weight, kl_target=self.kl_target)
        else:
            check_unused("objective='kl'", clip_range=self.clip_range, anneal_clip_range=self.anneal_clip_range)
        self._kl_weight = 1.0 if self.kl_weight is None else self.kl_weight
        self._generator = numpy_generator(self.seed, "learner", "ppo")

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses more minibatches than a chunk has samples."""
        n_samples = steps_per_chunk * batch_size
        if self.n_minibatches > n_samples:
            raise ConfigurationError(
                f"n_minibatches={self.n_minibatches}: a chunk has {n_samples} samples; must be at most {n_samples}"
            )

    def policy_loss(self, log_probs: Tensor, samples: Samples, advantages: Tensor) -> Tensor:
        if self._is_clipped:
            return samples.mean(clipped_surrogate(log_probs, samples.log_probs, advantages, self._clip_range))
        ratios = (log_probs - samples.log_probs).exp()
        divergence = samples.mean(approximate_kl(log_probs, samples.log_probs))
        return self._kl_weight * divergence - samples.mean(ratios * advantages)

    def value_loss(self, values: Tensor, samples: Samples) -> Tensor:
        if self.value_clip_range is None:
            return super().value_loss(values, samples)
        clipped = clipped_value(values, samples.values, samples.returns, self.value_clip_range)
        return 0.5 * samples.mean(clipped)

    def compile_updates(self, compiler: Compiler, steps_per_chunk: int, batch_size: int) -> None:
        if self.target_kl is not None:
            raise NotCompilableError("target_kl may end the update of a chunk early; it must be null")
        check_can_be_filled_up(self)
        numbers = (*self.compiled_numbers, "_clip_range", "_kl_weight", "value_clip_range")
        at_once = updates_per_graph(self.n_minibatches)
        n_samples = steps_per_chunk * batch_size
        due = self.n_epochs * self.n_minibatches / n_samples
        self.compiled = CompiledUpdates(self, compiler, numbers, at_once, n_samples, n_samples + batch_size, due)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        return self.with_or_without_compiling(partial(super().update, workspace, progress))

    def learn(self, experience: Samples) -> tuple[Loss | None, Tensor]:
        compiled = self.compiled
        if compiled is None or not self.n_minibatches <= len(experience) <= compiled.most_samples:
            return super().learn(experience)
        size = math.ceil(compiled.most_samples / self.n_minibatches)
        with compiled.drawing("samples", compiled.at_once, self._generator):
            n, n_parts, device = len(experience), self.n_minibatches, experience.returns.device
            passes = (list(parts(n, n_parts, self._generator, device)) for _ in range(self.n_epochs))
            return self.descend_compiled(compiled, experience, passes, size)

    def after_epochs(self, loss: Loss, experience: Samples) -> Metrics:
        if self._is_clipped:
            return self.clip_fraction(loss)
        with torch.no_grad():
            divergence = self.divergence(self.loss(experience))
        target = 0.01 if self.kl_target is None else self.kl_target
        if divergence > 1.5 * target:
            self._kl_weight = min(2 * self._kl_weight, _LARGEST_KL_WEIGHT)
        elif divergence < target / 1.5:
            self._kl_weight = max(self._kl_weight / 2, _SMALLEST_KL_WEIGHT)
        return {"learner/kl_weight": self._kl_weight}
