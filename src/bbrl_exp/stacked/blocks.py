"""Chunks of K jobs whose graphs are environments, stepped together, and a policy: recorded in blocks of memory.

Row by row, Python would copy each variable of each job to its workspace, which takes longer than the step itself. The
workspaces get the rows at the end of the chunk: nobody reads them before.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bbrl_exp.envs.environment_agent import SteppedTogether
from bbrl_exp.stacked.acting import StackedPolicy
from bbrl_exp.workspace import Workspace


class BlockedGraph:
    """K graphs of environments and a policy.

    Args:
        environments: of all jobs.
        policy: of all jobs; :func:`can_be_blocked` is true of both.
        workspaces: of the jobs.
    """

    def __init__(self, environments: SteppedTogether, policy: StackedPolicy, workspaces: Sequence[Workspace]) -> None:
        assert policy.action is not None
        self._environments = environments
        self._policy = policy
        self._workspaces = workspaces
        (self._n, *shape), dtype = environments.action_facts
        self._facts = {**environments.layout, policy.action[0]: ((self._n, *shape), dtype)}
        self._observed = list(environments.layout).index(str(policy.observed))
        self._blocks: list[NDArray[Any]] = []

    def unroll(self, first: int, n_steps: int, jobs: Sequence[int]) -> dict[int, Exception]:
        """Runs the graphs of ``jobs`` as :meth:`~bbrl_exp.stacked.unrolling.StackedGraph.unroll` does.

        The workspaces of jobs that fail stay as they are.
        """
        if not self._blocks or len(self._blocks[0]) != n_steps:
            self._blocks = [np.empty((n_steps, *shape), dtype) for shape, dtype in self._facts.values()]
        failures: dict[int, Exception] = {}
        left = list(jobs)
        actions = self._last_actions(first, jobs)
        noise = self._policy.noise(n_steps, self._n // len(self._workspaces))
        for t, (*rows, chosen), drawn in zip(itertools.count(first), zip(*self._blocks, strict=True), noise):
            if failed := self._environments.fill(t, actions, rows, left):
                failures |= failed
                left = [job for job in left if job not in failed]
                if not left:
                    return failures
            self._policy.choose(self._by_job(rows[self._observed]), drawn, self._by_job(chosen))
            actions = chosen
        for job in left:
            self._copy(job, first)
        return failures

    def _last_actions(self, first: int, jobs: Sequence[int]) -> NDArray[Any]:
        shape, dtype = self._environments.action_facts
        actions = np.zeros(shape, dtype)
        for job in jobs if first else ():
            (self._by_job(actions)[job],) = self._workspaces[job].row_reader(self._environments.reads).rows(first - 1)
        return actions

    def _copy(self, job: int, first: int) -> None:
        workspace, size = self._workspaces[job], self._n // len(self._workspaces)
        if first == 0:
            workspace.truncate(0)
        for name, block in zip(self._facts, self._blocks, strict=True):
            workspace.extend(name, torch.from_numpy(block[:, job * size : (job + 1) * size]))

    def _by_job(self, rows: NDArray[Any]) -> NDArray[Any]:
        """``[K · B, …]`` as ``[K, B, …]``."""
        return rows.reshape(len(self._workspaces), -1, *rows.shape[1:])


def can_be_blocked(environments: SteppedTogether, policy: StackedPolicy) -> bool:
    """Whether the policy sees one variable of the environments as it is, and writes actions as they read them."""
    if policy.action is None or policy.observed not in environments.layout:
        return False
    name, shape, dtype = policy.action
    (_, *expected), expected_dtype = environments.action_facts
    return (name, list(shape), np.dtype(dtype)) == (environments.reads[0], expected, expected_dtype)
