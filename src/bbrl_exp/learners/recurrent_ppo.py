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

import torch
from torch import Tensor

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_0, AT_LEAST_1, FROM_0_TO_1
from bbrl_exp.data.minibatches import parts
from bbrl_exp.data.transitions import DONE, REWARD, TERMINATED, TRUNCATED
from bbrl_exp.functional.losses import approximate_kl, clip_fraction, clipped_surrogate, explained_variance
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.sequences import Sequences, check_length, collect_sequences
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.observation import check_same_observations
from bbrl_exp.policies.recurrent import RecurrentCritic, RecurrentPolicy
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace


class RecurrentPPO(Learner):
    """Learns a recurrent policy and a critic from each chunk, which is then thrown away.

    Args:
        policy: the policy that chooses the actions.
        critic: the critic of sequences.
        learning_rate: of Adam.
        anneal_learning_rate: whether it falls linearly to zero over the run.
        discount: γ.
        trace_decay: λ of the advantages.
        n_epochs: passes over a chunk.
        n_minibatches: parts of a pass, evenly sized; one a sequence where there are fewer sequences.
        sequence_length: time steps of a sequence, a divisor of ``steps_per_chunk``; None, or more than these, for the
            whole chunk.
        clip_range: ε.
        anneal_clip_range: whether ε falls linearly to zero over the run.
        target_kl: divergence beyond 1.5 times which the update of a chunk ends, in nats; None for never.
        entropy_weight: of the entropy bonus.
        value_weight: of the critic's loss.
        max_grad_norm: largest norm of the gradient.
        normalize_advantages: whether each minibatch has advantages of mean 0 and standard deviation 1.
        reward: variable of the rewards.
        seed: root seed of the minibatches.

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
        trace_decay: float = 0.95,
        n_epochs: int = 4,
        n_minibatches: int = 4,
        sequence_length: int | None = None,
        clip_range: float = 0.2,
        anneal_clip_range: bool = False,
        target_kl: float | None = None,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        max_grad_norm: float = 0.5,
        normalize_advantages: bool = True,
        reward: str = REWARD,
        seed: int = 0,
    ) -> None:
        super().__init__()
        AT_LEAST_1.check(n_epochs=n_epochs, n_minibatches=n_minibatches, sequence_length=sequence_length)
        ABOVE_0.check(learning_rate=learning_rate, max_grad_norm=max_grad_norm)
        ABOVE_0.check(clip_range=clip_range, target_kl=target_kl)
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
        switches = {"anneal_learning_rate": anneal_learning_rate, "anneal_clip_range": anneal_clip_range}
        self.schedules = tuple(name for name, is_on in switches.items() if is_on)
        self._discount = discount
        self._trace_decay = trace_decay
        self._n_epochs = n_epochs
        self._n_minibatches = n_minibatches
        self._sequence_length = sequence_length
        self._first_clip_range = self._clip_range = clip_range
        self._anneals_clip_range = anneal_clip_range
        self._target_kl = target_kl
        self._entropy_weight = entropy_weight
        self._value_weight = value_weight
        self._normalizes = normalize_advantages
        self._reward = reward
        self._behaviour = BehaviourLogProbs()
        self._generator = numpy_generator(seed, "learner", "recurrent_ppo")
        self._optimizer = FlatOptimizer(
            [*policy.parameters(), *critic.parameters()],
            lambda parameters: torch.optim.Adam(parameters, learning_rate, eps=1e-5, fused=True),
            max_grad_norm,
        )

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses chunks that cannot be cut into whole sequences."""
        check_length(self._sequence_length, steps_per_chunk)

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
            sequence_length=self._sequence_length,
        )
        if self._anneals:
            self._optimizer.learning_rate = self._learning_rate * progress.remaining
        if self._anneals_clip_range:
            self._clip_range = self._first_clip_range * progress.remaining
        metrics = self._learn(sequences)
        valid = sequences.valid
        if not metrics:
            return {}
        metrics["learner/explained_variance"] = explained_variance(sequences.values[valid], sequences.returns[valid])
        metrics["learner/learning_rate"] = self._optimizer.learning_rate
        return metrics

    def _learn(self, sequences: Sequences) -> dict[str, float | Tensor]:
        metrics: dict[str, float | Tensor] = {}
        gradient_norm = torch.zeros(())
        for _ in range(self._n_epochs):
            for indexes in parts(len(sequences), self._n_minibatches, self._generator, sequences.returns.device):
                minibatch = sequences.select(indexes)
                if not minibatch.valid.any():
                    continue
                loss, metrics = self.loss(minibatch)
                metrics["learner/gradient_norm"] = gradient_norm
                if self._target_kl is not None and float(metrics["learner/approximate_kl"]) > 1.5 * self._target_kl:
                    return metrics
                metrics["learner/gradient_norm"] = gradient_norm = self._optimizer.step(loss)
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
        old_log_probs, advantages = valid(sequences.log_probs), valid(sequences.advantages)
        if self._normalizes and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy_loss = clipped_surrogate(log_probs, old_log_probs, advantages, self._clip_range).mean()
        value_loss = 0.5 * (valid(values) - valid(sequences.returns)).square().mean()
        entropy = distribution.entropy().mean()
        loss = policy_loss + self._value_weight * value_loss - self._entropy_weight * entropy
        ratios_of = log_probs.detach(), old_log_probs
        return loss, {
            "losses/policy": policy_loss.detach(),
            "losses/value": value_loss.detach(),
            "learner/entropy": entropy.detach(),
            "learner/approximate_kl": approximate_kl(*ratios_of).mean(),
            "learner/clip_fraction": clip_fraction(*ratios_of, self._clip_range),
        }
