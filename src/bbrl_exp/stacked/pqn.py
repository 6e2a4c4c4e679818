"""Parallelised Q-networks of K jobs that learn together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.data.transitions import align
from bbrl_exp.learners.learner import Metrics
from bbrl_exp.learners.pqn import PQN
from bbrl_exp.stacked.learning import Chunks, metrics_of, options_at
from bbrl_exp.stacked.parameters import LearningStack
from bbrl_exp.stacked.q_networks import StackedQNetwork, of_actions
from bbrl_exp.stacked.samples import stacked_parts


class StackedPQN:
    """K times :class:`~bbrl_exp.learners.pqn.PQN`.

    Args:
        learners: built alike.

    Attributes:
        policy_mlp: the networks of the policies.
    """

    def __init__(self, learners: Sequence[PQN]) -> None:
        self._learners = learners
        self._first = first = learners[0]
        self._stack = LearningStack([learner._optimizer for learner in learners])
        self._network = StackedQNetwork(first.policy.network, self._stack.of)
        self.policy_mlp = self._network.mlp

    def learn(self, chunks: Chunks) -> dict[int, Metrics]:
        """See :class:`~bbrl_exp.stacked.learning.StackedLearner`."""
        progress = chunks.progress
        metrics = options_at(self._learners, chunks)
        if not chunks.jobs:
            return {}
        returns, places, counts = self._returns(chunks)
        jobs = list(chunks.jobs)
        for job in jobs:
            own = self._learners[job]
            own.begin_step(own._optimizer, progress)
        last: dict[str, Tensor] = {}
        if any(counts):
            size = min(self._first.minibatch_size, returns.shape[1])
            n_parts = [max(1, math.ceil(count / self._first.minibatch_size)) for count in counts]
            observations = [leaf[:, :-1].flatten(1, 2) for leaf in chunks.stacked(self._first.policy.reads)]
            exploration = self._first.policy.exploration
            (actions,) = chunks.stacked(self._first.policy.writes, [exploration.start])
            indexes = exploration.indexes(actions[:, :-1].flatten(1, 2))
            generators = [learner._generator for learner in self._learners]
            for _ in range(self._first.n_epochs):
                for part, is_sample, active in stacked_parts(counts, n_parts, generators, size):
                    rows = places.gather(1, part)
                    seen = [_rows_of(leaf, rows) for leaf in observations]
                    found = self._step(seen, indexes.gather(1, rows), returns.gather(1, rows), is_sample, active)
                    last = found if len(active) == len(counts) or not last else _merged(found, last, active)
        self._stack.store()
        learning = [job for job in jobs if counts[job]]
        of_steps = metrics_of(last, learning) if last else {}
        for job in jobs:
            own = self._learners[job]
            metrics[job] |= of_steps.get(job, {})
            metrics[job]["learner/epsilon"] = own.explore(progress.env_steps, progress.length)
            metrics[job]["learner/learning_rate"] = own._optimizer.learning_rate
            metrics[job]["learner/updates"] = float(own._n_updates)
        return {job: metrics[job] for job in jobs}

    @torch.no_grad()
    def _returns(self, chunks: Chunks) -> tuple[Tensor, Tensor, list[int]]:
        """Of the pairs of new rows: λ-returns ``[K, N]``, which pairs are transitions ``[K, N]``, and how many."""
        rows = [leaf.flatten(1, 2) for leaf in chunks.stacked(self._first.policy.reads)]
        best = self._network.values(rows).amax(dim=2).unflatten(1, (-1, chunks.batch_size))  # type: ignore[no-untyped-call]
        n_jobs, n_pairs = len(self._learners), (chunks.n_rows - 1) * chunks.batch_size
        returns = torch.zeros(n_jobs, n_pairs)
        places = torch.zeros(n_jobs, n_pairs, dtype=torch.int64)
        counts = [0] * n_jobs

        def put(job: int) -> None:
            own = self._learners[job]
            workspace, first_row = chunks.workspaces[job], chunks.progress.first_row
            transitions = align(workspace, own.policy.reads, own.policy.writes, first_row, own.reward)
            returns[job] = own.returns_of(transitions, best[job]).flatten()
            valid = transitions.valid.flatten().nonzero().squeeze(1)
            counts[job] = len(valid)
            places[job, : len(valid)] = valid

        chunks.each(put)
        return returns, places, counts

    def _step(
        self, observations: list[Tensor], indexes: Tensor, returns: Tensor, is_sample: Tensor, jobs: Sequence[int]
    ) -> dict[str, Tensor]:
        """One update of ``jobs``, and its metrics, ``[K]``."""
        values = of_actions(self._network.values(observations), indexes)
        counts = is_sample.sum(dim=1).clamp(min=1)
        loss = 0.5 * ((values - returns).square() * is_sample).sum(dim=1) / counts
        norms = self._stack.step(loss, jobs)
        for job in jobs:
            self._learners[job]._n_updates += 1
        q_mean = (values.detach() * is_sample).sum(dim=1) / counts
        return {"losses/q": loss.detach(), "learner/q_mean": q_mean, "learner/gradient_norm": norms}


def _rows_of(leaf: Tensor, rows: Tensor) -> Tensor:
    """The rows ``[K, M]`` of a leaf ``[K, N, …]``, ``[K, M, …]``."""
    first = torch.arange(len(leaf))[:, None] * leaf.shape[1]
    return leaf.flatten(0, 1).index_select(0, (rows + first).flatten()).view(*rows.shape, *leaf.shape[2:])


def _merged(found: dict[str, Tensor], last: dict[str, Tensor], jobs: Sequence[int]) -> dict[str, Tensor]:
    index = torch.tensor(jobs)
    return {name: last[name].index_copy(0, index, values[index]) for name, values in found.items()}
