"""What learners of K jobs have in common when they learn together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bbrl_exp.data.transitions import DONE
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.stacked.networks import StackedMlp
from bbrl_exp.workspace import Workspace

Failures = dict[int, BaseException]


@dataclass(frozen=True)
class Chunks:
    """What the jobs have recorded.

    Attributes:
        workspaces: of all jobs.
        progress: how far the jobs are, which is the same for all.
        jobs: those that learn; the others have left.
        failures: what was raised while one job learned; it takes no further part.
    """

    workspaces: Sequence[Workspace]
    progress: Progress
    jobs: list[int]
    failures: Failures

    @property
    def n_rows(self) -> int:
        """Number of the new rows: one more than transitions."""
        workspace = self.workspaces[self.jobs[0]]
        return workspace.n_steps(DONE) - self.progress.first_row

    @property
    def batch_size(self) -> int:
        """Number B of environments of a job."""
        return self.workspaces[self.jobs[0]].batch_size()

    def stacked(self, names: Sequence[str], rests: Sequence[Tensor | int] | None = None) -> list[Tensor]:
        """The new rows of variables of all jobs, ``[K, T, B, …]`` each; ``rests``, or zeros, for jobs that have left.

        Args:
            names: of the variables.
            rests: what one environment's row of each variable holds then.
        """
        found = []
        for name, rest in zip(names, rests or [0] * len(names), strict=True):
            rows = {job: self.workspaces[job].get_full(name)[self.progress.first_row :] for job in self.jobs}
            if len(rows) < len(self.workspaces):
                filler = torch.empty_like(rows[self.jobs[0]]).copy_(torch.as_tensor(rest))
                rows = {job: rows.get(job, filler) for job in range(len(self.workspaces))}
            found.append(torch.stack(list(rows.values())))
        return found

    def each(self, work: Callable[[int], None], jobs: Sequence[int] | None = None) -> list[int]:
        """Does something for every job that is left, or for ``jobs`` of them; gives them without those that raise.

        Whoever raises leaves.
        """
        given = list(self.jobs if jobs is None else jobs)
        for job in given:
            try:
                work(job)
            except Exception as error:
                self.failures[job] = error
                self.jobs.remove(job)
        return [job for job in given if job not in self.failures]


class StackedLearner(Protocol):
    """K learners that are built alike, and learn together what each would have learned alone, up to rounding."""

    policy_mlp: StackedMlp

    def learn(self, chunks: Chunks) -> Mapping[int, Metrics]:
        """Learns from the new rows of the jobs, and gives the metrics of each; the learners are up to date then."""


def metrics_of(named: Mapping[str, Tensor], jobs: Sequence[int]) -> dict[int, dict[str, float | Tensor]]:
    """The metrics of each of ``jobs``, from tensors ``[K]``."""
    numbers = {name: values.detach().tolist() for name, values in named.items()}
    return {job: {name: values[job] for name, values in numbers.items()} for job in jobs}


def options_at(learners: Sequence[Learner], chunks: Chunks) -> dict[int, dict[str, float | Tensor]]:
    """Sets the scheduled options of the learners, and gives their values as metrics."""
    values: dict[int, dict[str, float | Tensor]] = {}

    def set_options(job: int) -> None:
        values[job] = dict(learners[job].set_options(chunks.progress))

    chunks.each(set_options)
    return values
