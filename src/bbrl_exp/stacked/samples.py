"""The samples of K jobs as tensors ``[K, N, …]``, and the minibatches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.data.transitions import parts
from bbrl_exp.learners.parts.samples import Samples

_ZERO = torch.zeros(())


@dataclass(frozen=True)
class StackedSamples:
    """The samples of K jobs. A job has N at most; what fills the rest is the same whoever its neighbours are: zeros,
    and actions of the space.

    Attributes:
        observations: one tensor ``[K, N, *shape]`` per leaf.
        actions: likewise.
        log_probs: of the actions under the policies that chose them, ``[K, N]``.
        values: of the critics as they were, ``[K, N]``.
        advantages: see :class:`~bbrl_exp.learners.parts.samples.Samples`, ``[K, N]``.
        returns: likewise.
        is_sample: 1 for samples, 0 for what fills the rest, ``[K, N]``.
        counts: samples of each job, ``[K, 1]``; 1 where it has none.
    """

    observations: tuple[Tensor, ...]
    actions: tuple[Tensor, ...]
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    is_sample: Tensor
    counts: Tensor

    @classmethod
    def of(cls, samples: Sequence[Samples | None], n_samples: int, actions: Sequence[Tensor]) -> StackedSamples:
        """Those of each job, None for a job that takes no part.

        Args:
            samples: of each job, one at least not None.
            n_samples: N, the most that a job can have.
            actions: one of the space, which fills the rest; a tensor per leaf.
        """
        n_jobs = len(samples)
        first = next(each for each in samples if each is not None)

        def stacked(values: Sequence[Tensor | None], like: Tensor, rest: Tensor = _ZERO) -> Tensor:
            block = like.new_empty((n_jobs, n_samples, *like.shape[1:])).copy_(rest)
            for row, value in zip(block, values, strict=True):
                if value is not None:
                    row[: len(value)] = value
            return block

        def of_field(name: str) -> Tensor:
            return stacked([None if each is None else getattr(each, name) for each in samples], getattr(first, name))

        def of_leaves(name: str, rests: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(
                stacked([None if each is None else getattr(each, name)[leaf] for each in samples], like, rest)
                for leaf, (like, rest) in enumerate(zip(getattr(first, name), rests, strict=True))
            )

        counts = torch.tensor([0 if each is None else len(each) for each in samples])[:, None]
        return cls(
            of_leaves("observations", [_ZERO] * len(first.observations)),
            of_leaves("actions", actions),
            of_field("log_probs"),
            of_field("values"),
            of_field("advantages"),
            of_field("returns"),
            (torch.arange(n_samples) < counts).to(first.returns.dtype),
            counts.clamp(min=1).to(first.returns.dtype),
        )

    def mean(self, values: Tensor) -> Tensor:
        """The mean of each job, ``[K]``, for ``[K, N]``."""
        return (values * self.is_sample).sum(dim=1) / self.counts[:, 0]

    def variance(self, values: Tensor, correction: int = 0) -> Tensor:
        """The variance of each job, ``[K]``, for ``[K, N]``."""
        deviations = (values - self.mean(values)[:, None]) * self.is_sample
        return deviations.square().sum(dim=1) / (self.counts[:, 0] - correction).clamp(min=1)

    def normalized_advantages(self) -> Tensor:
        """Advantages of mean 0 and standard deviation 1, ``[K, N]``; of a job with one sample as they are."""
        deviation = self.variance(self.advantages, correction=1).sqrt()[:, None]
        normalized = (self.advantages - self.mean(self.advantages)[:, None]) / (deviation + 1e-8)
        return torch.where(self.counts > 1, normalized, self.advantages)

    def explained_variance(self) -> Tensor:
        """As :func:`~bbrl_exp.functional.losses.explained_variance`, ``[K]``."""
        variance, unexplained = self.variance(self.returns), self.variance(self.returns - self.values)
        return torch.where(variance > 0, 1.0 - unexplained / variance, torch.zeros_like(variance))

    def select(self, indexes: Tensor, is_sample: Tensor) -> StackedSamples:
        """The samples at ``indexes``, int64 ``[K, M]``; ``is_sample``, ``[K, M]``, says which of them count."""
        n_jobs, n_samples = self.returns.shape
        flat = (indexes + torch.arange(n_jobs)[:, None] * n_samples).flatten()

        def selected(values: Tensor) -> Tensor:
            return values.flatten(0, 1).index_select(0, flat).view(*indexes.shape, *values.shape[2:])

        return StackedSamples(
            tuple(map(selected, self.observations)),
            tuple(map(selected, self.actions)),
            selected(self.log_probs),
            selected(self.values),
            selected(self.advantages),
            selected(self.returns),
            is_sample,
            is_sample.sum(dim=1, keepdim=True).clamp_(min=1),
        )


def stacked_parts(
    counts: Sequence[int], n_parts: Sequence[int], generators: Sequence[np.random.Generator], largest: int
) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """One epoch of K jobs, each with its own order, as :func:`~bbrl_exp.data.transitions.parts` gives it.

    Args:
        counts: samples of each job; 0 for one that takes no part, whose generator is left alone.
        n_parts: minibatches of each job, or one per sample where it has fewer samples.
        generators: of the jobs.
        largest: M, the most samples that a minibatch can have.

    Returns:
        For every minibatch the positions int64 ``[K, M]``, which of them count ``[K, M]``, and the jobs that have any.
    """
    indexes = np.zeros((max(n_parts), len(counts), largest), np.int64)
    sizes = np.zeros((max(n_parts), len(counts)), np.int64)
    for job, count in enumerate(counts):
        if count:
            for index, part in enumerate(parts(count, n_parts[job], generators[job])):
                sizes[index, job] = len(part)
                indexes[index, job, : len(part)] = part
    is_sample = (np.arange(largest) < sizes[..., None]).astype(np.float32)
    for index in range(int((sizes > 0).any(axis=1).sum())):
        yield (
            torch.from_numpy(indexes[index]),
            torch.from_numpy(is_sample[index]),
            np.flatnonzero(sizes[index]).tolist(),
        )
