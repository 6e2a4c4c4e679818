"""Array environments that numba compiles for the CPU: one call steps the batch and fills the workspace's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from bbrl_exp.envs.actions import ActionReader
from bbrl_exp.envs.arrays.compiling import compiled_loop
from bbrl_exp.envs.arrays.environments import ArrayEnvironments
from bbrl_exp.envs.environment_agent import EnvironmentAgent, SteppedTogether
from bbrl_exp.envs.staging import StagedRows, packed_to_host
from bbrl_exp.errors import BbrlExpError, NonFiniteError
from bbrl_exp.workspace import Workspace
from bbrl_exp.workspace.rows import RowWriter


class NumbaEnvironments(ArrayEnvironments):
    """Environments of a task with functions for one row: see :class:`ArrayEnvironments` for the arguments.

    They are compiled when they are first stepped, which takes seconds, once per task; later processes load the result.
    The rows of a workspace on another device are sent there with one transfer per step.

    Raises:
        ConfigurationError: numba is not installed, or the task lacks a function; see also :class:`ArrayEnvironments`.
    """

    computes_rows = True
    _sink: tuple[Workspace, RowWriter | StagedRows] | None

    def reset(self) -> None:
        """Begins an episode everywhere and fills row 0.

        Raises:
            NonFiniteError: a NaN or an infinity in an observation.
        """
        self._sink = None
        self._fill(0, self._nothing, begins_all=True)
        self._has_begun = True

    def step(self, t: int) -> None:
        """Fills row ``t``.

        Raises:
            NonFiniteError: a NaN or an infinity in a reward, an observation or an action.
            SpaceMismatchError: an action that is not of its space.
            WorkspaceError: the action at t - 1 was never written.
        """
        self._check_begun(t)
        if self.is_on_cpu:
            (actions,) = self.read_rows(t - 1, self.reads)
        else:
            (actions,) = packed_to_host([self.get((self.reads[0], t - 1)).detach()])
        if actions.dtype is not self._dtype or actions.shape != self._shape:
            actions = self._reader(actions, t - 1)
        actions.flags.writeable = False  # the loop would be compiled once more for others
        self._fill(t, actions, begins_all=False)

    def run_state(self) -> dict[str, Any]:
        """Task, root seeds, numbers of episodes, steps, ends, states and sums of rewards: tensors and plain Python.

        Raises:
            BbrlExpError: environments that have failed.
        """
        self._check_begun(0)
        return {
            "env_id": self.env_spec.env_id,
            "seeds": list(self._seeds),
            "counts": torch.from_numpy(self._counts.copy()),
            "totals": torch.from_numpy(self._totals.copy()),
            "states": torch.from_numpy(self._states.copy()),
        }

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Resumes from where :meth:`run_state` was taken, also that of the same environments as tensors.

        Raises:
            ConfigurationError: the state of another task, or of another number of environments.
        """
        self._check_state(state)
        self.seed(state["seeds"])
        self._counts[...], self._totals[...] = state["counts"].cpu().numpy(), state["totals"].cpu().numpy()
        self._states[...] = state["states"].cpu().numpy()
        self._sink, self._has_begun = None, True

    def _set_up(self) -> None:
        task = self.task
        self._sink = None
        self._reader = ActionReader(task.action, self.batch_size, clip=False)
        self._dtype, self._shape = np.dtype(task.action.dtype), (self.batch_size, *task.action.shape)
        self._nothing = np.zeros(self._shape, self._dtype)
        self._nothing.setflags(write=False)  # like the workspace's rows, for which the loop is compiled
        self._infos = np.zeros((self.batch_size, len(task.info) if self.info else 0))
        self._info_columns = [list(task.info).index(key) for key in self.info]
        low, high = (0, task.action.counts) if task.action.counts is not None else (task.action.low, task.action.high)
        self._bounds = np.stack(
            [np.broadcast_to(np.asarray(bound, self._dtype), task.action.shape or 1) for bound in (low, high)]
        )
        self._info_start = len(self._layout) - len(self.info)
        self._numbers = np.array(task.parameters, np.float64)
        self._loop = compiled_loop(task)
        self._counts, self._totals = np.zeros((3, self.batch_size), np.int64), np.zeros(self.batch_size)
        self._states = np.zeros((self.batch_size, self.task.n_state))
        self._keys = np.zeros((3, self.batch_size), np.int64)
        self._arguments: tuple[Any, ...] | None = None

    def _use_keys(self, keys: NDArray[np.int64]) -> None:
        self._keys[...], self._counts[0] = keys, -1

    def _state_of(self, index: int) -> NDArray[np.float64]:
        state: NDArray[np.float64] = self._states[index]
        return state

    def _fill(self, t: int, actions: NDArray[Any], begins_all: bool) -> None:
        opened = self._sink
        workspace = self.__dict__["workspace"]
        sink = opened[1] if opened is not None and opened[0] is workspace else self._open_sink(workspace)
        rows = sink.rows(t)
        shown = rows[: self._info_start] if self._info_columns else rows
        bad = self._loop(begins_all, *(self._arguments or self._pack_arguments()), actions, *shown)
        if bad:
            self._fail(bad, t, actions, rows)
        if self._info_columns:
            for column, row in zip(self._info_columns, rows[self._info_start :], strict=True):
                row[...] = self._infos[:, column]
        sink.commit(t)

    def _pack_arguments(self) -> tuple[Any, ...]:
        """The arguments of the loop that stay the same from row to row; some are arrays that it changes."""
        self._arguments = (
            self._numbers,
            self._keys,
            self._visible,
            self._bounds,
            self.task.n_random,
            self.task.observation.shape[0],
            self.task.max_episode_steps or 0,
            self.auto_reset,
            self.env_spec.clips_actions,
            self._counts,
            self._totals,
            self._states,
            self._infos,
        )
        return self._arguments

    def _fail(self, bad: int, t: int, actions: NDArray[Any], rows: Sequence[NDArray[Any]]) -> NoReturn:
        self._sink, self._has_begun = None, False
        if bad < 0:
            self._reader(actions, t - 1)
        raise self.failure(bad, t, rows)

    def failure(self, bad: int, t: int, rows: Sequence[NDArray[Any]]) -> BbrlExpError:
        """The error of rows ``[B, …]`` that the loop has refused."""
        for name, row in zip(self.writes, rows, strict=False):
            if row.dtype.kind == "f":
                for index in np.argwhere(~np.isfinite(row)).tolist():
                    return NonFiniteError(name, index[0], t, row[tuple(index)].item())
        return BbrlExpError(f"{self.label} at t={t}: environment {abs(bad) - 1} failed")

    def together(self, others: Sequence[EnvironmentAgent]) -> SteppedTogether | None:
        """One call for all, where they are built alike on the CPU."""
        from bbrl_exp.envs.arrays.together import NumbaTogether

        agents = [self, *(other for other in others if isinstance(other, NumbaEnvironments))]
        is_alike = len(agents) == len(others) + 1 and all(
            type(agent).step is NumbaEnvironments.step
            and agent.is_on_cpu
            and len(agent.seeds) == 1
            and (type(agent.task), agent.layout, agent.info) == (type(self.task), self.layout, self.info)
            and (agent._numbers == self._numbers).all()
            and (agent._first, agent._hidden, agent.auto_reset) == (self._first, self._hidden, self.auto_reset)
            for agent in agents
        )
        return NumbaTogether(agents) if is_alike else None

    def _open_sink(self, workspace: Workspace) -> RowWriter | StagedRows:
        if self.is_on_cpu:
            sink: RowWriter | StagedRows = workspace.row_writer(self._layout)
        else:
            sink = StagedRows(workspace, self._layout, self.agent_device)
        self._sink = (workspace, sink)
        return sink
