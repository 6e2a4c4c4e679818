"""Actor-critics of K jobs that learn together: what PPO and A2C share, and A2C."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from bbrl_exp.functional.losses import policy_gradient, truncated_ratios
from bbrl_exp.learners.a2c import A2C
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.samples import Samples, samples_of
from bbrl_exp.learners.ppo import PPO
from bbrl_exp.nn.distributions import ActionDistribution, Distribution, Normal
from bbrl_exp.nn.heads import CategoricalHead, GaussianHead
from bbrl_exp.policies.values import SharedTrunkCritic, ValueCritic
from bbrl_exp.stacked.learning import Chunks, metrics_of, options_at
from bbrl_exp.stacked.networks import StackedMlp, stacked_features
from bbrl_exp.stacked.parameters import LearningStack
from bbrl_exp.stacked.perceptron import affine
from bbrl_exp.stacked.samples import StackedSamples

L = TypeVar("L", PPO, A2C)


class Step(NamedTuple):
    """One step of K jobs: ``[K]`` each but for the last three, ``[K, M]``."""

    policy: Tensor
    value: Tensor
    entropy: Tensor
    norms: Tensor
    log_probs: Tensor
    old_log_probs: Tensor
    is_sample: Tensor

    def for_jobs(self, jobs: Sequence[int], others: Step | None) -> Step:
        """This step for ``jobs``, and that of ``others`` for the rest."""
        if others is None or len(jobs) == len(self.norms):
            return self
        is_own = torch.zeros(len(self.norms), dtype=torch.bool)
        is_own[list(jobs)] = True
        masks = (is_own if own.dim() == 1 else is_own[:, None] for own in self)
        return Step(*(torch.where(mask, own, other) for mask, own, other in zip(masks, self, others, strict=True)))


class StackedActorCritic(Generic[L]):
    """K actor-critics that learn together.

    Args:
        learners: built alike.

    Attributes:
        policy_mlp: the networks of the policies.
    """

    normalizes = False

    def __init__(self, learners: Sequence[L]) -> None:
        self._learners: Sequence[L] = learners
        self._first: L = learners[0]
        first = self._first
        self._stack = LearningStack([learner._optimizer for learner in learners])
        self.policy_mlp = StackedMlp(first.policy.network, self._stack.of)
        self._actions = [_first_action(head) for head in first.policy.heads._heads]
        self._critic_mlp = None
        if isinstance(first.critic, ValueCritic):
            self._critic_mlp = StackedMlp(first.critic.network, self._stack.of)

    def learn(self, chunks: Chunks) -> dict[int, Metrics]:
        """See :class:`~bbrl_exp.stacked.learning.StackedLearner`."""
        metrics = options_at(self._learners, chunks)
        if not chunks.jobs:
            return {}
        collected = self._collect(chunks)
        jobs = [job for job, own in enumerate(collected) if own is not None and len(own)]
        if jobs:
            n_samples = (chunks.n_rows - 1) * chunks.batch_size
            of_jobs = [own if job in jobs else None for job, own in enumerate(collected)]
            samples = StackedSamples.of(of_jobs, n_samples, self._actions)
            rates = [learner.begin_step(learner._optimizer, chunks.progress) for learner in self._learners]
            last = self._steps(samples, jobs, chunks.progress)
            self._stack.store()
            found = {
                "losses/policy": last.policy,
                "losses/value": last.value,
                "learner/entropy": last.entropy,
                **self._other_metrics(last),
                "learner/explained_variance": samples.explained_variance(),
                "learner/gradient_norm": last.norms,
            }
            for job, values in metrics_of(found, jobs).items():
                metrics[job] |= {**values, "learner/learning_rate": rates[job]}
        return {job: metrics[job] for job in chunks.jobs}

    @abstractmethod
    def _steps(self, samples: StackedSamples, jobs: Sequence[int], progress: Progress) -> Step:
        """The steps of ``jobs``; gives the last one of each."""

    @abstractmethod
    def _policy_losses(self, log_probs: Tensor, samples: StackedSamples, advantages: Tensor) -> Tensor:
        """The policy's part of the loss of each sample, ``[K · M]``; all arguments are flat."""

    def _value_losses(self, values: Tensor, samples: StackedSamples) -> Tensor:
        """The critic's part of the loss of each sample, ``[K, M]``."""
        return 0.5 * (values - samples.returns).square()

    def _other_metrics(self, last: Step) -> dict[str, Tensor]:
        return {}

    @torch.no_grad()
    def _collect(self, chunks: Chunks) -> list[Samples | None]:
        """The valid transitions of the new rows of each job; None for jobs that have left."""
        policy = self._first.policy
        outputs, values = self._outputs([leaf.flatten(1, 2) for leaf in chunks.stacked(policy.reads)])
        actions = [leaf.flatten(0, 2) for leaf in chunks.stacked(policy.writes, self._actions)]
        log_probs = self._distribution(outputs).log_prob(actions).view_as(values)
        collected: list[Samples | None] = [None] * len(self._learners)

        def collect(job: int) -> None:
            own = self._learners[job]
            collected[job] = samples_of(
                chunks.workspaces[job], chunks.progress, own.policy, values[job], log_probs[job], own._behaviour, own
            )

        chunks.each(collect)
        return collected

    def _outputs(self, observations: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What the policies' networks give for N observations of each job, ``[K, N, P]``, and values ``[K, N]``."""
        features = stacked_features(self._first.policy.features, observations)
        if self._critic_mlp is not None:
            values = self._critic_mlp(stacked_features(self._first.critic.features, observations))
            return self.policy_mlp(features), values.squeeze(2)
        latent = self.policy_mlp.hidden(features)
        output = cast(SharedTrunkCritic, self._first.critic).output
        values = affine(latent, self._stack.of(output.weight), self._stack.of(output.bias))
        return self.policy_mlp.output(latent), values.squeeze(2)

    def _distribution(self, outputs: Tensor) -> ActionDistribution:
        """The distributions for outputs ``[K, N, P]``, in one batch ``[K · N]``."""
        heads = self._first.policy.heads
        parts = torch.split(outputs, heads._sizes, dim=2)
        found: list[Distribution] = []
        for head, part in zip(heads._heads, parts, strict=True):
            flat = part.flatten(0, 1)
            if isinstance(head, GaussianHead):
                log_std = self._stack.of(head.log_std)[:, None].expand_as(part).flatten(0, 1)
                found.append(Normal(flat, log_std, head.shape))
            else:
                found.append(head.distribution(flat))
        return ActionDistribution(found)

    def _step(self, samples: StackedSamples, jobs: Sequence[int], previous: Step | None = None) -> Step:
        """One step of ``jobs`` on these samples."""
        learners = self._learners
        outputs, values = self._outputs(samples.observations)
        distribution = self._distribution(outputs)
        log_probs = distribution.log_prob([leaf.flatten(0, 1) for leaf in samples.actions])
        advantages = samples.normalized_advantages() if self.normalizes else samples.advantages
        policy_loss = samples.mean(self._policy_losses(log_probs, samples, advantages.flatten()).view_as(values))
        value_loss = samples.mean(self._value_losses(values, samples))
        entropy = samples.mean(distribution.entropy().view_as(values))
        value_weight = torch.tensor([float(learner.value_weight) for learner in learners])
        entropy_weight = torch.tensor([float(learner.entropy_weight) for learner in learners])
        total = policy_loss + value_weight * value_loss - entropy_weight * entropy
        step = Step(
            policy_loss.detach(),
            value_loss.detach(),
            entropy.detach(),
            torch.zeros(len(learners)) if previous is None else previous.norms,
            log_probs.detach().view_as(values),
            samples.log_probs,
            samples.is_sample,
        )
        jobs = self._continuing(step, jobs)
        if not jobs:
            return step
        norms, is_own = self._stack.step(total, jobs), torch.zeros(len(learners), dtype=torch.bool)
        is_own[list(jobs)] = True
        return step._replace(norms=torch.where(is_own, norms, step.norms))

    def _continuing(self, step: Step, jobs: Sequence[int]) -> Sequence[int]:
        """Those of ``jobs`` that take the step."""
        return jobs


def _first_action(head: CategoricalHead | GaussianHead) -> Tensor:
    """An action of the space, which fills what is no sample: 0 may be none of a discrete space."""
    return head.start.view(head.shape) if isinstance(head, CategoricalHead) else torch.zeros(head.shape)


class StackedA2C(StackedActorCritic[A2C]):
    """K times :class:`~bbrl_exp.learners.a2c.A2C`."""

    def _steps(self, samples: StackedSamples, jobs: Sequence[int], progress: Progress) -> Step:
        return self._step(samples, jobs)

    def _policy_losses(self, log_probs: Tensor, samples: StackedSamples, advantages: Tensor) -> Tensor:
        return policy_gradient(log_probs, truncated_ratios(log_probs, samples.log_probs.flatten()) * advantages)
