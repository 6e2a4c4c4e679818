"""What actor-critic learners learn from: the valid transitions of a chunk, with values and advantages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bbrl_exp.data.transitions import align
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.behaviour import BehaviourLogProbs
from bbrl_exp.learners.parts.options import AdvantageOptions
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import Critic
from bbrl_exp.workspace import Workspace


@dataclass(frozen=True)
class Samples:
    """N transitions, without gradients.

    Attributes:
        observations: one tensor ``[N, *shape]`` a leaf.
        actions: one tensor ``[N, *shape]`` a leaf.
        log_probs: of the actions under the policy that chose them, ``[N]``.
        values: of the critic as it was, ``[N]``.
        advantages: generalised advantage estimates (Schulman et al., 2016), ``[N]``.
        returns: ``advantages + values``, what the critic should have said, ``[N]``.
        weights: of the samples in means, ``[N]``, which sum to 1: 0 for those that only fill a batch up; None where all
            count alike.
    """

    observations: tuple[Tensor, ...]
    actions: tuple[Tensor, ...]
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor | None = None

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``[N]`` over the samples, without dimensions."""
        return values.mean() if self.weights is None else (values * self.weights).sum()

    def standardized(self, values: Tensor) -> Tensor:
        """``[N]`` with mean 0 and standard deviation 1 over the samples; as they are for a single sample."""
        if len(values) < 2:
            return values
        if self.weights is None:
            return (values - values.mean()) / (values.std() + 1e-8)
        centred = values - self.mean(values)
        n = (self.weights > 0).sum()
        variance = self.mean(centred.square()) * n / (n - 1).clamp(min=1)
        return torch.where(n > 1, centred / (variance.sqrt() + 1e-8), values)

    def tensors(self, size: int) -> list[Tensor]:
        """All tensors but the weights, each filled up to ``[size, …]`` by zeros."""
        others = (self.log_probs, self.values, self.advantages, self.returns)
        found = [*self.observations, *self.actions, *others]
        if len(self) == size:
            return found
        return [torch.cat((each, each.new_zeros(size - len(each), *each.shape[1:]))) for each in found]

    def like(self, tensors: Sequence[Tensor], weights: Tensor) -> Samples:
        """Samples of the same variables, of what :meth:`tensors` gave of them or stands for that."""
        n_observed, n_chosen = len(self.observations), len(self.actions)
        first = n_observed + n_chosen
        log_probs, values, advantages, returns = tensors[first:]
        observations, actions = tuple(tensors[:n_observed]), tuple(tensors[n_observed:first])
        return Samples(observations, actions, log_probs, values, advantages, returns, weights)

    def __len__(self) -> int:
        return len(self.returns)

    def steps(self) -> Samples:
        """Themselves; what they have in common with sequences."""
        return self

    def select(self, indexes: Tensor) -> Samples:
        """The samples at ``indexes``, int64 ``[M]``."""
        return Samples(
            tuple(leaf.index_select(0, indexes) for leaf in self.observations),
            tuple(leaf.index_select(0, indexes) for leaf in self.actions),
            self.log_probs.index_select(0, indexes),
            self.values.index_select(0, indexes),
            self.advantages.index_select(0, indexes),
            self.returns.index_select(0, indexes),
        )


Evaluate = Callable[[StochasticPolicy, Critic, Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]


def evaluated(
    policy: StochasticPolicy, critic: Critic, rows: Sequence[Tensor], actions: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Values and log-probabilities, ``[N]`` each, of N observations and actions, one tensor ``[N, *shape]`` a leaf."""
    latent = policy.latent(rows)
    values = critic.values(rows, latent)
    return [values, policy.distribution_of(latent).log_prob(actions)]


@torch.no_grad()
def collect_samples(
    workspace: Workspace,
    progress: Progress,
    policy: StochasticPolicy,
    critic: Critic,
    behaviour: BehaviourLogProbs,
    options: AdvantageOptions,
    evaluate: Evaluate | None = None,
) -> Samples:
    """The valid transitions of the new rows, in the order of time, then of environments.

    Args:
        workspace: the chunk.
        progress: says which rows are new.
        policy: that chose the actions, unchanged since but for those of the first row.
        critic: of the states.
        behaviour: knows how likely those were.
        options: of the advantages.
        evaluate: gives what :func:`evaluated` does.
    """
    rows = [leaf[progress.first_row :].flatten(0, 1) for leaf in policy.features.read(workspace)]
    actions = [workspace.get_full(name)[progress.first_row :].flatten(0, 1) for name in policy.writes]
    values, log_probs = (evaluate or evaluated)(policy, critic, rows, actions)
    return samples_of(workspace, progress, policy, values, log_probs, behaviour, options)


def samples_of(
    workspace: Workspace,
    progress: Progress,
    policy: StochasticPolicy,
    values: Tensor,
    log_probs: Tensor,
    behaviour: BehaviourLogProbs,
    options: AdvantageOptions,
) -> Samples:
    """The same, where values and log-probabilities of the T + 1 new rows are known, ``[(T + 1) B]`` each."""
    transitions = align(workspace, policy.reads, policy.writes, progress.first_row, options.reward)
    n_steps, batch_size = transitions.rewards.shape
    values, log_probs = (each.view(n_steps + 1, batch_size) for each in (values, log_probs))
    advantages = options.advantages(transitions, values)
    recorded = [workspace.get_full(name)[progress.first_row :] for name in (*policy.reads, *policy.writes)]
    leaves = [leaf.flatten(0, 1)[: n_steps * batch_size] for leaf in recorded]
    samples = Samples(
        observations=tuple(leaves[: len(policy.reads)]),
        actions=tuple(leaves[len(policy.reads) :]),
        log_probs=behaviour.of_chunk(log_probs, recorded).flatten(),
        values=values[:-1].flatten(),
        advantages=advantages.flatten(),
        returns=(advantages + values[:-1]).flatten(),
    )
    valid = transitions.valid.flatten()
    return samples if bool(valid.all()) else samples.select(valid.nonzero().squeeze(1))
