"""Runs the agents that an action depends on, row by row, on a workspace that nobody else sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents
from bbrl_exp.agents.graph_check import VariableFacts, check_graph
from bbrl_exp.config.graph import env_spec_of
from bbrl_exp.envs.spec import MisfitError
from bbrl_exp.envs.values import ActionWriter, Observed, dense, read_variable
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.without_environments import Outside, Uses, needed_for, union_of
from bbrl_exp.workspace import Workspace

State = Mapping[str, Tensor]

_STARTS, _TIMESTEP, _DONE = "env/initial_state", "env/timestep", "env/done"
_KNOWN = (_STARTS, _TIMESTEP, _DONE)
_ROWS = 16  # as many as a workspace has room for at first


class Player:
    """The agents of a graph for batches of one size, on their own workspace.

    Args:
        members: all agents of the graph.

    Attributes:
        agents: those on which the action depends.
        supplied: variables that they read of the environments.
        kept: these and the variables that they write, which make up the state.
        asked: what :meth:`act` must be given beside observations.
    """

    def __init__(self, members: Sequence[Agent]) -> None:
        outside = [agent for agent in members if isinstance(agent, Outside)]
        spec = env_spec_of(outside[0]) if len(outside) == 1 else None
        if spec is None:
            raise ConfigurationError(f"act needs a graph with one environment agent, found {len(outside)}")
        facts = {variable.name: variable for variable in check_graph(Agents(*members))}
        uses = {agent: Uses.of(agent, facts.values()) for agent in members}
        self._actions = [leaf.name for leaf in spec.actions]
        running = needed_for(self._actions, uses)
        readers = {agent: uses[agent] for agent in running if agent is not outside[0]}
        read = union_of(each.reads for each in readers.values())
        written = union_of(each.writes for each in readers.values())
        shown = uses[outside[0]].writes
        self.supplied = {name: fact for name, fact in facts.items() if name in shown & read}
        self.kept = {name: fact for name, fact in facts.items() if name in self.supplied or name in written}
        self._observations = [leaf.name for leaf in spec.observations]
        self._asked = {
            name: next(agent.label for agent, each in readers.items() if name in each.reads)
            for name in self.supplied
            if name not in self._observations and name not in _KNOWN
        }
        self.asked = tuple(self._asked)
        self._outside = outside[0]
        self._outside.layout = {name: (fact.shape, _numpy_dtype(fact)) for name, fact in self.supplied.items()}
        self._write_actions = ActionWriter(spec)
        self.agents = Agents(*running)
        self._names = tuple(self.kept)
        self._has_arrays = all(fact.dtype != torch.bfloat16 for fact in self.kept.values())
        self._workspace, self._t = Workspace(), 0
        self._last: State | None = None

    def act(
        self, observed: Observed, state: State | None, starts: Any, variables: Mapping[str, Any]
    ) -> tuple[Any, State]:
        """See :meth:`~bbrl_exp.runs.loaded_policy.LoadedPolicy.act`."""
        begun = None if starts is None else _started(starts, observed)
        rows: dict[str, Any] = dict(zip(self._observations, observed.rows, strict=True))
        if variables or self._asked:
            rows |= self._given(variables, observed)
        t = self._begin(state)
        if any(name in self.supplied for name in _KNOWN):
            rows |= self._known(t, begun, observed.batch_size)
        self._outside.rows[:] = [rows[name] for name in self.supplied]
        with torch.inference_mode():
            self.agents(self._workspace, t=t)
        following = self._state(t)
        actions = self._write_actions([following[name].cpu().numpy() for name in self._actions], t, observed)
        self._last, self._t = following, t + 1
        return actions, following

    def _state(self, t: int) -> State:
        """A copy of row ``t``."""
        if self._has_arrays and self._outside.is_on_cpu:
            rows = self._workspace.row_reader(self._names).rows(t)
            return {name: torch.from_numpy(row.copy()) for name, row in zip(self._names, rows, strict=True)}
        return {name: self._workspace.get(name, t).clone() for name in self._names}

    def _begin(self, state: State | None) -> int:
        """Makes the last row of the workspace that of the state, and gives the time of the row after it."""
        workspace, is_last = self._workspace, state is not None and state is self._last
        self._last = None  # until all agents have run
        if is_last and self._t < _ROWS:
            return self._t
        if is_last:
            workspace.copy_n_last_steps(1)
            return 1
        if state is not None:
            self._check(state)
        workspace.truncate(0)
        for name, row in (state or {}).items():
            workspace.set(name, 0, row.to(self._outside.agent_device))
        return 0 if state is None else 1

    def _check(self, state: State) -> None:
        """Refuses what :meth:`act` has not returned for as many environments."""
        fix = "give what the last call for these environments returned, or None to begin an episode"
        if not isinstance(state, Mapping) or state.keys() != self.kept.keys():
            found = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ConfigurationError(f"state: must hold {', '.join(self.kept)}; found {found}; {fix}")
        for name, fact in self.kept.items():
            row = state[name]
            if (
                not isinstance(row, Tensor)
                or row.is_nested
                or row.is_meta
                or row.shape != fact.shape
                or row.dtype != fact.dtype
            ):
                is_readable = isinstance(row, Tensor) and not row.is_nested
                found = f"{row.dtype} {list(row.shape)}" if is_readable else type(row).__name__
                found += " on meta" if is_readable and row.is_meta else ""
                expected = f"{fact.dtype} {list(fact.shape)}".removeprefix("torch.")
                raise ConfigurationError(
                    f"state: '{name}' must be {expected}; found {found.removeprefix('torch.')}; {fix}"
                )

    def _known(self, t: int, begun: NDArray[np.bool_] | None, batch_size: int) -> dict[str, NDArray[Any]]:
        """Where episodes start, and how long they are."""
        workspace = self._workspace
        starts = np.full(batch_size, t == 0) if t == 0 or begun is None else begun
        if t > 0 and _DONE in self.supplied and starts.any():
            workspace.set(_DONE, t - 1, torch.from_numpy(starts).to(self._outside.agent_device))
        steps = np.zeros(batch_size, np.int64)
        if t > 0 and _TIMESTEP in self.supplied:
            steps = np.where(starts, 0, workspace.get(_TIMESTEP, t - 1).cpu().numpy() + 1)
        return {_STARTS: starts, _TIMESTEP: steps, _DONE: np.zeros(batch_size, np.bool_)}

    def _given(self, variables: Mapping[str, Any], observed: Observed) -> dict[str, NDArray[Any]]:
        """The rows of what else agents read of the environments."""
        for name in variables:
            if name not in self._asked:
                needed = ", ".join(self._asked) or "nothing"
                raise ConfigurationError(f"variables: no agent needs '{name}'; needed: {needed}")
        rows = {}
        for name, reader in self._asked.items():
            if name not in variables:
                raise ConfigurationError(
                    f"{reader} reads '{name}', which no observation shows: give act(…, variables={{'{name}': …}})"
                )
            shape, dtype = self.supplied[name].shape, _numpy_dtype(self.supplied[name])
            row = read_variable(name, variables[name], shape[1:] if observed.is_single else shape, dtype)
            rows[name] = row[None] if observed.is_single else row
        return rows


def _numpy_dtype(fact: VariableFacts) -> np.dtype[Any]:
    return torch.empty(0, dtype=fact.dtype).numpy().dtype


def _started(starts: Any, observed: Observed) -> NDArray[np.bool_]:
    """``starts`` as bool ``[B]``."""
    try:
        array = dense(starts, "starts").detach().cpu().numpy() if isinstance(starts, Tensor) else np.asarray(starts)
    except MisfitError as error:
        raise ConfigurationError(f"starts: must be {error.args[1]}; found {error.args[2]}") from None
    shape = () if observed.is_single else (observed.batch_size,)
    if array.dtype != np.bool_ or array.shape != shape:
        expected = "one bool" if observed.is_single else f"bool {list(shape)}"
        raise ConfigurationError(f"starts: must be {expected}; found {array.dtype.name} {list(array.shape)}")
    return array.reshape(observed.batch_size)
