"""What on-policy actor-critics share: options, the sum of their losses, and how each kind of policy is unrolled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import partial
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from bbrl_exp.arguments import AboveZero, AtLeastZero, Scheduled
from bbrl_exp.compilation.compiler import NotCompilableError
from bbrl_exp.functional.losses import explained_variance
from bbrl_exp.learners.compiled.batches import filled_up, refilled
from bbrl_exp.learners.compiled.updates import CompiledUpdates
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.options import AdvantageOptions, StepOptions
from bbrl_exp.learners.parts.samples import Samples, collect_samples, evaluated
from bbrl_exp.learners.parts.sequences import SequenceAdvantageOptions, Sequences, collect_sequences
from bbrl_exp.nn.distributions import ActionDistribution
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.memory import check_same_inputs
from bbrl_exp.policies.observation import check_same_observations
from bbrl_exp.policies.recurrent import RecurrentCritic, RecurrentPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import Critic
from bbrl_exp.workspace import Workspace

Experience = TypeVar("Experience", Samples, Sequences)


class Loss(NamedTuple):
    """The loss of N samples and its parts, tensors without dimensions but for ``log_probs``, ``[N]``."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    log_probs: Tensor
    samples: Samples


class OnPolicyActorCritic(StepOptions, AdvantageOptions, Learner, Generic[Experience]):
    """Learns a stochastic policy and a critic from each chunk, which is then thrown away.

    Raises:
        ConfigurationError: a value out of its range, or a critic that sees other variables than the policy.
    """

    entropy_weight: Scheduled[AtLeastZero] = 0.0
    """of the entropy bonus."""
    value_weight: Scheduled[AtLeastZero] = 0.5
    """of the critic's loss."""
    max_grad_norm: Scheduled[AboveZero] | None = 0.5

    # Whether advantages have mean 0 and standard deviation 1; an option of some algorithms.
    normalize_advantages = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._behaviour = BehaviourLogProbs()

    @abstractmethod
    def collect(self, workspace: Workspace, progress: Progress) -> Experience:
        """What the new rows of a chunk teach."""

    @abstractmethod
    def loss(self, experience: Experience) -> Loss:
        """The loss of experience, for the policy and the critic as they are now."""

    @abstractmethod
    def policy_loss(self, log_probs: Tensor, samples: Samples, advantages: Tensor) -> Tensor:
        """The policy's part of the loss, a scalar.

        Args:
            log_probs: of the actions under the policy as it is now, ``[N]``.
            samples: what was experienced.
            advantages: those of ``samples``, normalised where they are to be, ``[N]``.
        """

    def value_loss(self, values: Tensor, samples: Samples) -> Tensor:
        """The critic's part of the loss, a scalar, for values ``[N]``."""
        if samples.weights is None:
            return 0.5 * mse_loss(values, samples.returns)
        return 0.5 * samples.mean((values - samples.returns).square())

    def loss_of(self, samples: Samples, distribution: ActionDistribution, values: Tensor) -> Loss:
        """The loss of N samples.

        Args:
            samples: what was experienced.
            distribution: over actions, for their observations.
            values: of their observations, ``[N]``.
        """
        log_probs, advantages = distribution.log_prob(samples.actions), samples.advantages
        if self.normalize_advantages:
            advantages = samples.standardized(advantages)
        policy_loss = self.policy_loss(log_probs, samples, advantages)
        value_loss = self.value_loss(values, samples)
        entropy = samples.mean(distribution.entropy())
        total = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
        return Loss(total, policy_loss, value_loss, entropy, log_probs, samples)

    def metrics_of(
        self, loss: Loss, experience: Experience, gradient_norm: Tensor, learning_rate: float, others: Metrics
    ) -> Metrics:
        """What an update reports, ``others`` among it."""
        steps = experience.steps()
        return {
            "losses/policy": loss.policy.detach(),
            "losses/value": loss.value.detach(),
            "learner/entropy": loss.entropy.detach(),
            **others,
            "learner/explained_variance": explained_variance(steps.values, steps.returns),
            "learner/gradient_norm": gradient_norm,
            "learner/learning_rate": learning_rate,
        }


class OfSamples(OnPolicyActorCritic[Samples]):
    """On-policy learning of a policy without a memory, from transitions in any order."""

    # Dotted names of what may change from one compiled update to the next one.
    compiled_numbers: ClassVar[tuple[str, ...]] = ("entropy_weight", "value_weight", "_optimizer.max_grad_norm")
    policy: StochasticPolicy = field(kw_only=False)
    """the policy that chooses the actions."""
    critic: Critic = field(kw_only=False)
    """the critic of states."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._optimizer: FlatOptimizer  # is each algorithm's own
        check_same_observations(self.policy.features, self.critic.features)
        self.reads = self.reads_with(self.policy)

    def descend_compiled(
        self, compiled: CompiledUpdates, samples: Samples, passes: Iterable[list[Tensor]], size: int
    ) -> tuple[Loss, Tensor]:
        """Compiled steps, one for the samples at the indexes of each part; the last one's loss and gradient norm.

        Args:
            compiled: what does them, ``compiled.at_once`` of them in a graph.
            samples: what was experienced, ``compiled.most_samples`` of them at most.
            passes: parts, int64 each and none empty; a multiple of ``compiled.at_once`` of them in each pass.
            size: most samples of a part.
        """
        tensors, n = samples.tensors(compiled.most_samples), compiled.at_once

        def body(index: int, given: Sequence[Tensor]) -> list[Tensor]:
            *whole, indexes, weights = given
            part = [each.index_select(0, indexes[index]) for each in whole]
            loss = self.loss(samples.like(part, weights[index]))
            norm = self._optimizer.step(loss.total)
            return [norm, *loss[:-1]]

        other_fillings = partial(refilled, n_kept=len(tensors))
        for parts in passes:
            indexes, weights = filled_up(parts, size)
            for first in range(0, len(parts), n):
                given = [*tensors, indexes[first : first + n], weights[first : first + n]]
                outputs = compiled("samples", n, body, given, equal=other_fillings)
        norm, total, policy, value, entropy, log_probs = outputs
        last = samples.select(parts[-1])
        return Loss(total, policy, value, entropy, log_probs[: len(last)], last), norm

    def with_or_without_compiling(self, update: Callable[[], Metrics]) -> Metrics:
        """The update; where a graph of it cannot be compiled all of it again without, the values of the chunk too."""
        before = self._behaviour.state()
        try:
            return update()
        except NotCompilableError as reason:
            self.give_up_compiling(reason)
            self._behaviour.load_state(before)
            return update()

    def collect(self, workspace: Workspace, progress: Progress) -> Samples:
        of = (workspace, progress, self.policy, self.critic, self._behaviour, self)
        return collect_samples(*of, self._evaluated)

    def _evaluated(
        self, policy: StochasticPolicy, critic: Critic, rows: Sequence[Tensor], actions: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """:func:`evaluated`, compiled where that can be."""
        compiled, n_leaves = self.compiled, len(rows)
        if compiled is not None and len(rows[0]) == compiled.most_rows:

            def body(_: int, given: Sequence[Tensor]) -> Sequence[Tensor]:
                with torch.no_grad():
                    return evaluated(policy, critic, given[:n_leaves], given[n_leaves:])

            return compiled("rows", 1, body, [*rows, *actions], what="policy and critic on the states of a chunk")
        return evaluated(policy, critic, rows, actions)

    def loss(self, experience: Samples) -> Loss:
        latent = self.policy.latent(experience.observations)
        values = self.critic.values(experience.observations, latent)
        return self.loss_of(experience, self.policy.distribution_of(latent), values)


class OfSequences(SequenceAdvantageOptions, OnPolicyActorCritic[Sequences]):
    """On-policy learning of a policy with a memory, from sequences."""

    policy: RecurrentPolicy = field(kw_only=False)
    """the policy that chooses the actions."""
    critic: RecurrentCritic = field(kw_only=False)
    """the critic of sequences."""

    def __post_init__(self) -> None:
        super().__post_init__()
        memory = self.critic.memory
        if memory is not None:
            check_same_inputs(self.policy.memory, memory)
        self.reads = self.reads_with(self.policy, *(() if memory is None else (memory.state_name,)))

    def collect(self, workspace: Workspace, progress: Progress) -> Sequences:
        return collect_sequences(workspace, progress, self.policy, self.critic, self._behaviour, self)

    def loss(self, experience: Sequences) -> Loss:
        """The loss of M sequences: means over their N valid steps."""
        observations, starts = experience.observations, experience.starts
        policy_state, critic_state = experience.policy_state, experience.critic_state
        if experience.policy_burn_in is not None:
            policy_state = experience.policy_burn_in.state_after(self.policy.memory, policy_state)
        if experience.critic_burn_in is not None and self.critic.memory is not None:
            critic_state = experience.critic_burn_in.state_after(self.critic.memory, critic_state)
        latent = self.policy.latent(observations, policy_state, starts)
        values = self.critic.values(latent, observations, critic_state, starts)
        distribution = self.policy.distribution_of(experience.of_steps(latent))
        return self.loss_of(experience.steps(), distribution, experience.of_steps(values))
