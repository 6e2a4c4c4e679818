"""A graph of agents is checked before it runs: two steps of a throw-away copy on a workspace that takes notes.

The copy consumes no random numbers of the original, resets no live environment and updates no statistics: agents that
hold something live return a substitute (:meth:`Agent.dry_copy`), all others are deep-copied, and the global generators
are put back.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.failure import failing_module
from bbrl_exp.errors import BbrlExpError, GraphError, UserCodeError, WorkspaceError, described, did_you_mean
from bbrl_exp.seeding import untouched_global_generators
from bbrl_exp.workspace import BatchDims, RowFacts, RowReader, RowWriter, Workspace

_N_STEPS = 2


@dataclass(frozen=True)
class VariableFacts:
    """One line of the table of variables.

    Attributes:
        name: the variable.
        shape: shape of one row, ``[B, …]``.
        dtype: dtype of the rows.
        writers: names of the agents that write it.
        readers: names of the agents that read it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    writers: tuple[str, ...]
    readers: tuple[str, ...]

    @property
    def bytes_per_step(self) -> int:
        """Memory of one row in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def check_graph(agent: Agent) -> list[VariableFacts]:
    """Runs two steps of a copy of ``agent`` and says who reads and who writes what.

    Args:
        agent: the graph; a :class:`TemporalAgent` or what one would unroll.

    Returns:
        The variables in the order of their first writes.

    Raises:
        GraphError: somebody reads what nobody writes, an agent fails on the shapes that it is given, or variables have
            different batch sizes.
    """
    from bbrl_exp.agents.combinators import TemporalAgent

    with untouched_global_generators(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        copy = agent.dry_copy()
        notes = _NotingWorkspace(copy)
        try:
            if isinstance(copy, TemporalAgent) and type(copy) is not TemporalAgent:
                copy(notes, t=0, n_steps=_N_STEPS)
            else:
                # A plain TemporalAgent has all its members running at once, which would hide who does what.
                once = copy.agent if isinstance(copy, TemporalAgent) else copy
                for t in range(_N_STEPS):
                    once(notes, t=t)
        except WorkspaceError as error:
            later = notes.who_writes_later()
            # Its name is right: only the order is not.
            message = re.sub(r"; did you mean '[^']*'\?$", "", str(error)) if later else str(error)
            raise GraphError(f"{message}{later}") from None
        except UserCodeError as error:
            raise GraphError(f"the graph check fails: {error}") from error
        except BbrlExpError:
            raise
        except Exception as error:
            failing = failing_module(error, (Agent,))
            assert isinstance(failing, Agent)  # at least the copy: it was called
            if (misfit := notes.misfit_of(failing)) is not None:
                raise GraphError(f"{failing.label} {misfit}") from error
            raise GraphError(f"{failing.label} fails in the graph check: {described(error)}") from error
        finally:
            copy.close()
    notes.check_declarations()
    facts = notes.facts()
    _check_batch_sizes(facts)
    return facts


def _check_batch_sizes(facts: Sequence[VariableFacts]) -> None:
    """Refuses a variable of another batch size than the first one: its rows belong to other environments.

    Raises:
        GraphError: the variable, who writes it, and the two sizes.
    """
    for variable in facts:
        if variable.shape[0] != facts[0].shape[0]:
            raise GraphError(
                f"{', '.join(variable.writers)} writes '{variable.name}' for a batch of {variable.shape[0]}, "
                f"{', '.join(facts[0].writers)} '{facts[0].name}' for one of {facts[0].shape[0]}: must be the same"
            )


class _NotingWorkspace(Workspace):
    """Notes which of the running agents of ``root`` reads and writes each variable."""

    def __init__(self, root: Agent) -> None:
        super().__init__()
        self._root = root
        self._writers: dict[str, list[str]] = {}
        self._readers: dict[str, list[str]] = {}
        self._missing: str | None = None

    def set(self, name: str, t: int, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        self._note(self._writers, name)
        super().set(name, t, value, batch_dims)

    def set_full(self, name: str, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        self._note(self._writers, name)
        super().set_full(name, value, batch_dims)

    def row_writer(self, variables: RowFacts) -> RowWriter:
        for name in variables:
            self._note(self._writers, name)
        return super().row_writer(variables)

    def row_reader(self, names: tuple[str, ...]) -> RowReader:
        for name in names:
            self._note(self._readers, name)
        self._missing = next((name for name in names if name not in self), None)
        return super().row_reader(names)

    def get(self, name: str, t: int, batch_dims: BatchDims | None = None) -> Tensor:
        self._note(self._readers, name)
        self._missing = name if name not in self else None
        return super().get(name, t, batch_dims)

    def get_full(self, name: str, batch_dims: BatchDims | None = None) -> Tensor:
        self._note(self._readers, name)
        self._missing = name if name not in self else None
        return super().get_full(name, batch_dims)

    def who_writes_later(self) -> str:
        """The end of an error message: the agent that declares to write the variable that was missing, if one does."""
        for module in self._root.modules():
            if isinstance(module, Agent) and self._missing is not None and self._missing in (module.writes or ()):
                return f"; {module.label} writes it, but runs later in the same step"
        return ""

    def misfit_of(self, agent: Agent) -> str | None:
        """What is wrong with the shape of a variable that a module of the agent was made for; None for nothing.

        Modules state it as ``row_shapes``, variable → shape of one environment's row.
        """
        for module in agent.modules():
            for name, shape in getattr(module, "row_shapes", {}).items():
                found = tuple(self._variables[name].shape[1:]) if name in self else shape
                if found != shape:
                    return (
                        f"reads '{name}' {list(found)} and was made for {list(shape)}, as the environment shows it: "
                        "an agent before it must keep that shape, which only a wrapper of the environment can change"
                    )
        return None

    def check_declarations(self) -> None:
        """Refuses a declared read, perhaps of a later step, that nobody writes and nobody declares to write.

        Raises:
            GraphError: the agent and the variable.
        """
        agents = [module for module in self._root.modules() if isinstance(module, Agent)]
        written = {*self.keys(), *(name for agent in agents for name in agent.writes or ())}
        for agent in agents:
            for name in agent.reads or ():
                if name not in written:
                    hint = did_you_mean(name, written)
                    raise GraphError(f"{agent.label} declares to read '{name}', which nobody writes{hint}")

    def facts(self) -> list[VariableFacts]:
        """What was noted, one line per variable."""
        return [
            VariableFacts(
                name,
                tuple(variable.shape),
                variable.dtype,
                tuple(self._writers.get(name, ())),
                tuple(self._readers.get(name, ())),
            )
            for name, variable in self._variables.items()
        ]

    def _note(self, table: dict[str, list[str]], variable: str) -> None:
        running = [module for module in self._root.modules() if isinstance(module, Agent) and module.workspace is self]
        if running:
            # A module comes after those that contain it: the last one running is the one that reads or writes.
            agent = running[-1].name or type(running[-1]).__name__
            agents = table.setdefault(variable, [])
            if agent not in agents:
                agents.append(agent)
