"""The array environments of several jobs, stepped by one call; each job's rows go to its own workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.arrays.numba_environments import NumbaEnvironments
from bbrl_exp.workspace import Workspace


class NumbaTogether:
    """Steps the environments of K agents as one batch of K · B, with the rows that each would have alone.

    The agents keep their states, of which the batch has the memory, so that each can be saved at any time.

    Args:
        agents: built alike, with one root seed each.
    """

    def __init__(self, agents: Sequence[NumbaEnvironments]) -> None:
        size = self._size = agents[0].batch_size
        self._agents = agents
        whole = cast(NumbaEnvironments, agents[0]._others(size * len(agents), [agent.seeds[0] for agent in agents]))
        self._whole = whole
        whole._counts = np.concatenate([agent._counts for agent in agents], axis=1)
        whole._totals = np.concatenate([agent._totals for agent in agents])
        whole._states = np.concatenate([agent._states for agent in agents])
        self._parts = [slice(first, first + size) for first in range(0, size * len(agents), size)]
        for agent, part in zip(agents, self._parts, strict=True):
            agent._counts, agent._totals = whole._counts[:, part], whole._totals[part]
            agent._states, agent._keys = whole._states[part], whole._keys[:, part]
            agent._arguments = None
        self.reads, self.layout = whole.reads, whole.layout
        self.action_facts = (whole._shape, whole._dtype)
        self._rows: list[NDArray[Any]] = [np.empty(shape, dtype) for shape, dtype in whole.layout.values()]
        self._actions = np.zeros(whole._shape, whole._dtype)
        self._given = self._actions.view()
        self._given.setflags(write=False)  # like the rows of a workspace, for which the loop is compiled
        self._arguments = whole._pack_arguments()

    def step(self, t: int, workspaces: Sequence[Workspace], jobs: Sequence[int]) -> dict[int, Exception]:
        """Fills row ``t`` of the workspaces of ``jobs``; gives the errors of those whose environments failed."""
        failures: dict[int, Exception] = {}
        for job in jobs:
            if t == 0:
                workspaces[job].truncate(1)
            else:
                self._read(job, workspaces[job], t - 1, failures)
        failures = self.fill(t, self._actions, self._rows, jobs) | failures
        for job in jobs:
            if job in failures:
                continue
            writer = workspaces[job].row_writer(self._agents[job].layout)
            for kept, row in zip(writer.rows(t), self._rows, strict=True):
                kept[...] = row[self._parts[job]]
            writer.commit(t)
        return failures

    def fill(
        self, t: int, actions: NDArray[Any], rows: Sequence[NDArray[Any]], jobs: Sequence[int]
    ) -> dict[int, Exception]:
        """See :meth:`~bbrl_exp.envs.environment_agent.SteppedTogether.fill`."""
        failures: dict[int, Exception] = {}
        if t == 0:
            for job in jobs:
                self._agents[job]._has_begun = True
        if actions is not self._actions:
            self._actions[...] = actions
        bad = self._fill(t, rows)
        while bad < 0:  # an action that is none, before anything was stepped
            self._refuse(bad, t, failures)
            bad = self._fill(t, rows)
        for job in jobs if bad else ():
            own = [row[self._parts[job]] for row in rows]
            if not all(np.isfinite(row).all() for row in own if row.dtype.kind == "f"):
                failures.setdefault(job, self._agents[job].failure(bad, t, own))
        return {job: error for job, error in failures.items() if job in jobs}

    def _read(self, job: int, workspace: Workspace, t: int, failures: dict[int, Exception]) -> None:
        agent, part = self._agents[job], self._parts[job]
        try:
            (actions,) = workspace.row_reader(agent.reads).rows(t)
            if actions.dtype is not agent._dtype or actions.shape != agent._shape:
                actions = agent._reader(actions, t)
        except Exception as error:
            failures[job] = error
            self._actions[part] = 0
        else:
            self._actions[part] = actions

    def _refuse(self, bad: int, t: int, failures: dict[int, Exception]) -> None:
        job, index = divmod(-bad - 1, self._size)
        agent, actions = self._agents[job], self._actions[self._parts[job]]
        refused: Exception = agent.failure(-1 - index, t, ())
        if not actions.any():  # not even 0 is an action: nothing can be stepped
            raise refused
        try:
            agent._reader(actions, t - 1)
        except Exception as error:
            refused = error
        failures.setdefault(job, refused)
        actions[...] = 0

    def _fill(self, t: int, rows: Sequence[NDArray[Any]]) -> int:
        whole = self._whole
        bad = int(whole._loop(t == 0, *self._arguments, self._given, *rows[: whole._info_start]))
        for column, row in zip(whole._info_columns, rows[whole._info_start :], strict=True):
            row[...] = whole._infos[:, column]
        return bad
