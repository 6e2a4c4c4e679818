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

import functools
from typing import Literal

import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZero, Scheduled
from bbrl_exp.compilation.compiler import Compiler
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.compiled.batches import check_can_be_filled_up
from bbrl_exp.learners.compiled.updates import CompiledUpdates
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.advantage_update import AdvantageUpdate
from bbrl_exp.learners.parts.on_policy import Loss, OfSamples
from bbrl_exp.learners.parts.options import MakeOptimizer, OneOptimizer, adam
from bbrl_exp.learners.parts.samples import Samples
from bbrl_exp.workspace import Workspace

_NAMED: dict[str, MakeOptimizer] = {
    "rmsprop": functools.partial(torch.optim.RMSprop, alpha=0.99, eps=1e-5),
    "adam": adam(epsilon=1e-5),
}


class A2C(AdvantageUpdate[Samples], OfSamples):
    """Learns a stochastic policy and a critic by one step a chunk."""

    optimizer: OneOptimizer | Literal["rmsprop", "adam"] | None = "rmsprop"  # type: ignore[assignment]
    """node of a ``torch.optim.Optimizer``, or ``rmsprop`` (decay 0.99, as in the paper, and ε 1e-5; None too) or
    ``adam`` (ε 1e-5).
    """
    learning_rate: Scheduled[AboveZero] = 7e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.optimizer if isinstance(self.optimizer, str) else "rmsprop"
        if name not in _NAMED:
            raise ConfigurationError(f"optimizer='{name}': must be one of {', '.join(_NAMED)}, or the node of another")
        self._optimizer = self.flat_optimizer(self.parameters(), _NAMED[name])

    def compile_updates(self, compiler: Compiler, steps_per_chunk: int, batch_size: int) -> None:
        check_can_be_filled_up(self)
        n_samples = steps_per_chunk * batch_size
        self.compiled = CompiledUpdates(
            self, compiler, self.compiled_numbers, 1, n_samples, n_samples + batch_size, 1 / n_samples
        )

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        return self.with_or_without_compiling(functools.partial(super().update, workspace, progress))

    def learn(self, experience: Samples) -> tuple[Loss, Tensor]:
        compiled = self.compiled
        if compiled is None or len(experience) > compiled.most_samples:
            return super().learn(experience)
        whole = torch.arange(len(experience), device=experience.returns.device)
        return self.descend_compiled(compiled, experience, [[whole]], compiled.most_samples)
