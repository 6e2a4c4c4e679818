"""Advantage actor-critic with a memory (Mnih et al., 2016, arXiv:1602.01783, algorithm S3, without its threads).

The policy π(a_t|s_0 … s_t) depends on all that the episode has shown. With the generalised advantage estimate A (λ = 1:
the paper's n-step advantage, n the rest of the chunk) it goes up

    E[ρ ∇ log π(a|s …) A + w ∇ H(π(·|s …))]

while the critic minimises half the squared error to A + V. Each chunk makes one step: it passes through the memory from
the state that is recorded in its first row, zeroed where an episode starts, and the gradient flows through all of it.
ρ is min(1, π / π_old) (Espeholt et al., 2018, arXiv:1802.01561, section 4.1), where π_old chose the action: that of the
first row before the last update, the others with what the memory had made of that row before it, until an episode
starts. Rows in which an episode is over count in no loss.

Deviations from the paper: environments side by side in place of asynchronous threads; Adam in place of RMSprop; the
gradient is the mean over steps, not the sum, clipped by its norm; the critic's loss has the factor ½ and a weight; an
episode that a time limit cuts keeps its bootstrap. The learning rate may fall linearly to zero, as in the paper.
"""

from __future__ import annotations

from bbrl_exp.learners.parts.advantage_update import AdvantageUpdate
from bbrl_exp.learners.parts.on_policy import OfSequences
from bbrl_exp.learners.parts.options import adam
from bbrl_exp.learners.parts.sequences import Sequences


class RecurrentA2C(AdvantageUpdate[Sequences], OfSequences):
    """Learns a recurrent policy and a critic by one step a chunk."""

    normalize_advantages: bool = False
    """whether each chunk has advantages of mean 0 and standard deviation 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._optimizer = self.flat_optimizer(self.parameters(), adam(epsilon=1e-5))
