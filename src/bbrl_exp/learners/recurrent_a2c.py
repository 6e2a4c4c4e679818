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

import torch
from torch import Tensor

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_0, FROM_0_TO_1
from bbrl_exp.data.transitions import DONE, REWARD, TERMINATED, TRUNCATED
from bbrl_exp.functional.losses import explained_variance, policy_gradient, truncated_ratios
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.sequences import Sequences, collect_sequences
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.observation import check_same_observations
from bbrl_exp.policies.recurrent import RecurrentCritic, RecurrentPolicy
from bbrl_exp.workspace import Workspace


class RecurrentA2C(Learner):
    """Learns a recurrent policy and a critic by one step a chunk.

    Args:
        policy: the policy that chooses the actions.
        critic: the critic of sequences.
        learning_rate: of Adam.
        anneal_learning_rate: whether it falls linearly to zero over the run.
        discount: γ.
        trace_decay: λ of the advantages.
        entropy_weight: w, of the entropy bonus.
        value_weight: of the critic's loss.
        max_grad_norm: largest norm of the gradient.
        normalize_advantages: whether each chunk has advantages of mean 0 and standard deviation 1.
        reward: variable of the rewards.

    Raises:
        ConfigurationError: a value out of its range, or a critic that sees other variables than the policy.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        critic: RecurrentCritic,
        learning_rate: float = 1e-3,
        anneal_learning_rate: bool = False,
        discount: float = 0.99,
        trace_decay: float = 1.0,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        max_grad_norm: float = 0.5,
        normalize_advantages: bool = False,
        reward: str = REWARD,
    ) -> None:
        super().__init__()
        ABOVE_0.check(learning_rate=learning_rate, max_grad_norm=max_grad_norm)
        FROM_0_TO_1.check(discount=discount, trace_decay=trace_decay)
        AT_LEAST_0.check(entropy_weight=entropy_weight, value_weight=value_weight)
        if critic.memory is not None:
            check_same_observations(policy.memory.features, critic.memory.features)
        self.policy = policy
        self.critic = critic
        states = () if critic.memory is None else (critic.memory.state_name,)
        self.reads = (*policy.reads, *policy.writes, *states, reward, TERMINATED, TRUNCATED, DONE)
        self._learning_rate = learning_rate
        self._anneals = anneal_learning_rate
        self.schedules = ("anneal_learning_rate",) if anneal_learning_rate else ()
        self._discount = discount
        self._trace_decay = trace_decay
        self._entropy_weight = entropy_weight
        self._value_weight = value_weight
        self._normalizes = normalize_advantages
        self._reward = reward
        self._behaviour = BehaviourLogProbs()
        self._optimizer = FlatOptimizer(
            [*policy.parameters(), *critic.parameters()],
            lambda parameters: torch.optim.Adam(parameters, learning_rate, eps=1e-5, fused=True),
            max_grad_norm,
        )

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        sequences = collect_sequences(
            workspace,
            progress,
            self.policy,
            self.critic,
            self._behaviour,
            discount=self._discount,
            trace_decay=self._trace_decay,
            reward=self._reward,
            sequence_length=None,
        )
        valid = sequences.valid
        if not valid.any():
            return {}
        if self._anneals:
            self._optimizer.learning_rate = self._learning_rate * progress.remaining
        loss, metrics = self.loss(sequences)
        metrics["learner/gradient_norm"] = self._optimizer.step(loss)
        metrics["learner/explained_variance"] = explained_variance(sequences.values[valid], sequences.returns[valid])
        metrics["learner/learning_rate"] = self._optimizer.learning_rate
        return metrics

    def loss(self, sequences: Sequences) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The loss of M sequences, a scalar: means over the N valid steps; and its parts, detached."""
        latent = self.policy.latent(sequences.observations, sequences.policy_state, sequences.starts)
        values = self.critic.values(latent, sequences.observations, sequences.critic_state, sequences.starts)
        steps = sequences.valid.flatten().nonzero().squeeze(1)

        def valid(rows: Tensor) -> Tensor:
            return rows.flatten(0, 1).index_select(0, steps)

        distribution = self.policy.distribution_of(valid(latent))
        log_probs = distribution.log_prob([valid(leaf) for leaf in sequences.actions])
        advantages = valid(sequences.advantages)
        if self._normalizes and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        weights = truncated_ratios(log_probs, valid(sequences.log_probs))
        policy_loss = policy_gradient(log_probs, weights * advantages).mean()
        value_loss = 0.5 * (valid(values) - valid(sequences.returns)).square().mean()
        entropy = distribution.entropy().mean()
        return policy_loss + self._value_weight * value_loss - self._entropy_weight * entropy, {
            "losses/policy": policy_loss.detach(),
            "losses/value": value_loss.detach(),
            "learner/entropy": entropy.detach(),
        }
