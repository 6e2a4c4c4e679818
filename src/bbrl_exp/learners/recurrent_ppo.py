"""Proximal policy optimisation with a memory (Schulman et al., 2017, arXiv:1707.06347).

The policy π(a_t|s_0 … s_t) depends on all that the episode has shown. The objective is that of PPO, with the ratio
r = π(a|s …) / π_old(a|s …) and the generalised advantage estimate A,

    E[min(r A, clip(r, 1 − ε, 1 + ε) A)]      (equation 7)

plus an entropy bonus, while the critic minimises half the squared error to A + V_old. A minibatch is a number of whole
sequences: each passes through the memory from the state that is recorded where it begins, zeroed where an episode
starts, and the gradient flows through all of it. Rows in which an episode is over count in no loss.

Deviations from the paper: it has no memory; advantages are normalised in each minibatch; the gradient is clipped by its
norm; the critic's loss has the factor ½; an update may stop early at a divergence (``target_kl``); an episode that a
time limit cuts keeps its bootstrap. Recorded states are those of the policy before the update of the chunk, in every
epoch. Learning rate and ε may fall linearly to zero, as in the paper's Atari experiments.
"""

from __future__ import annotations

from torch import Tensor

from bbrl_exp.arguments import AboveZero, Scheduled
from bbrl_exp.functional.losses import clipped_surrogate
from bbrl_exp.learners.learner import Metrics
from bbrl_exp.learners.parts.cuts import BurnInOptions
from bbrl_exp.learners.parts.on_policy import Loss, OfSequences
from bbrl_exp.learners.parts.proximal_update import ProximalUpdate
from bbrl_exp.learners.parts.samples import Samples
from bbrl_exp.learners.parts.sequences import Sequences
from bbrl_exp.seeding import numpy_generator


class RecurrentPPO(BurnInOptions, ProximalUpdate[Sequences], OfSequences):
    """Learns a recurrent policy and a critic from each chunk, which is then thrown away."""

    clip_range: Scheduled[AboveZero] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._generator = numpy_generator(self.seed, "learner", "recurrent_ppo")

    def policy_loss(self, log_probs: Tensor, samples: Samples, advantages: Tensor) -> Tensor:
        return clipped_surrogate(log_probs, samples.log_probs, advantages, self._clip_range).mean()

    def after_epochs(self, loss: Loss, experience: Sequences) -> Metrics:
        return self.clip_fraction(loss)
