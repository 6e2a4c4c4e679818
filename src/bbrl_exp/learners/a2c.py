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

from typing import Literal

import torch

from bbrl_exp.arguments import AboveZero
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.parts.advantage_update import AdvantageUpdate
from bbrl_exp.learners.parts.on_policy import OfSamples
from bbrl_exp.learners.parts.samples import Samples
from bbrl_exp.nn.flat_optimizer import FlatOptimizer, MakeOptimizer


class A2C(AdvantageUpdate[Samples], OfSamples):
    """Learns a stochastic policy and a critic by one step a chunk."""

    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """``rmsprop`` (decay 0.99, as in the paper, and ε 1e-5) or ``adam`` (ε 1e-5)."""
    learning_rate: AboveZero = 7e-4
    """of the optimizer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        maker = _maker(self.optimizer, self.learning_rate)
        self._optimizer = FlatOptimizer(self.parameters(), maker, self.max_grad_norm)


def _maker(optimizer: str, learning_rate: float) -> MakeOptimizer:
    if optimizer not in ("rmsprop", "adam"):
        raise ConfigurationError(f"optimizer='{optimizer}': must be one of rmsprop, adam")
    if optimizer == "adam":
        return lambda parameters: torch.optim.Adam(parameters, learning_rate, eps=1e-5, fused=True)
    return lambda parameters: torch.optim.RMSprop(parameters, learning_rate, alpha=0.99, eps=1e-5)
