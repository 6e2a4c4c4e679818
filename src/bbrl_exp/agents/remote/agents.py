"""Agents that run in other processes, on the workspace that they are called with.

The agent that they are given stays here as the master copy of its parameters: what a learner changes in them is sent
over with the next call, and what changes there (statistics, say) comes back with its answer. Everything else that the
agent has, environments, random streams, counters, lives in the other process. Rows go through shared memory. There are
no gradients.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.agents.remote.copies import Copies
from bbrl_exp.errors import ConfigurationError, RemoteAgentError
from bbrl_exp.seeding import untouched_global_generators
from bbrl_exp.workspace import Workspace


class _AgentElsewhere(Agent):
    """What the three kinds have in common."""

    speaks_for_parts: ClassVar[bool] = True

    def __init__(self, agent: Agent, n_processes: int | None, timeout: float, seed: int, name: str | None) -> None:
        super().__init__(name)
        if not isinstance(agent, Agent):
            raise ConfigurationError(f"{self.label} runs an Agent, not a {type(agent).__name__}")
        self.agent = agent
        self._copies = Copies(n_processes, timeout, seed)

    def seed(self, seed: int) -> None:
        """Starts every random stream again, the global generators of the processes included."""
        if not self._copies.is_started:
            self.agent.seed(seed)
        self._copies.seed(seed)

    def close(self) -> None:
        """Ends the processes; may be called again."""
        self._copies.close()
        self.agent.close()

    def dry_copy(self) -> Agent:
        return self.agent.dry_copy()

    def run_state(self) -> dict[str, Any]:
        """The state of the agents in the processes, and of the global generators there; waits for the end of a call."""
        if not self._copies.is_started:
            return {"batch_size": None, "copies": []}
        return {"batch_size": self._copies.batch_size, "copies": self._copies.states()}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`run_state` gave; starts the processes if need be.

        Raises:
            ConfigurationError: it is the state of another number of processes.
        """
        if state["copies"]:
            if not self._copies.is_started:
                self._copies.start(self.agent, state["batch_size"])
            self._copies.set_states(state["copies"])

    def _begin(self, workspace: Workspace, keywords: Mapping[str, Any]) -> None:
        if not self._copies.is_started:
            shares_batch = self._copies.n_processes is not None
            self._copies.start(self.agent, self._size_of_batch(workspace, keywords) if shares_batch else None)
        self._copies.call(self.agent, workspace, keywords)

    def _size_of_batch(self, workspace: Workspace, keywords: Mapping[str, Any]) -> int:
        """The size of the workspace's batch; if that is empty, of the first row of a substitute."""
        if not len(workspace):
            workspace = Workspace()
            with untouched_global_generators(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
                stand_in = self.agent.dry_copy()
                if isinstance(stand_in, TemporalAgent):
                    keywords = {**keywords, "n_steps": 1, "stop_variable": None}
                stand_in(workspace, **keywords)
                stand_in.close()
        return workspace.batch_size()


class _WaitingAgent(_AgentElsewhere):
    def forward(self, **kwargs: Any) -> None:
        """Runs the agent with ``kwargs`` and waits for it.

        Raises:
            BbrlExpError: what the agent raised there; a note names the process.
            RemoteAgentError: a process died, was stuck, or raised anything else.
        """
        assert self.workspace is not None
        self._begin(self.workspace, kwargs)
        self._copies.wait()
        self._copies.write_to(self.workspace)


class RemoteAgent(_WaitingAgent):
    """Runs an agent in one other process, and waits for it.

    The process starts with the first call. A call gives the same bits as one of ``agent`` itself, but for what
    draws from the global generators: those of the process are its own, seeded from ``seed``.

    Args:
        agent: what runs there, with the keywords of the call; its environments here are closed when it starts.
        timeout: seconds without any new row after which the process is an error.
        seed: root seed of the process's global generators.
        name: the agent's name.
    """

    def __init__(self, agent: Agent, *, timeout: float = 60.0, seed: int = 0, name: str | None = None) -> None:
        super().__init__(agent, None, timeout, seed, name)


class NRemoteAgent(_WaitingAgent):
    """Runs N copies of an agent in N processes, each on its slice of the batch, and waits for all.

    Environments, and policies of this project, give the same bits as one agent with the whole batch: environment i has
    the stream of environment i, and noise is drawn for the whole batch everywhere, of which each copy uses its part. (A
    matrix product may round differently for another number of rows.) With ``stop_variable``, all copies stop where the
    whole batch would.

    Refused are agents with a random generator of which nobody knows how it is divided (see
    :class:`~bbrl_exp.agents.slices.KnowsItsSlice`), and agents whose parameters or statistics become different in the
    copies, such as a normaliser that still learns.

    Args:
        agent: what runs there; its environments here are closed when it starts.
        n_processes: number N of processes, at most one per batch element.
        timeout: seconds without any new row after which a process is an error.
        seed: root seed of the processes' global generators, which are different in each.
        name: the agent's name.
    """

    def __init__(
        self, agent: Agent, n_processes: int, *, timeout: float = 60.0, seed: int = 0, name: str | None = None
    ) -> None:
        super().__init__(agent, n_processes, timeout, seed, name)


class AsynchronousAgent(_AgentElsewhere):
    """Runs an agent in other processes, and does not wait: what it did is seen in :meth:`result`.

    A call hands over what the workspace holds, which may change at once afterwards, and is never written to.

    Args:
        agent: what runs there; its environments here are closed when it starts.
        n_processes: number of copies that share the batch, as in :class:`NRemoteAgent`; None for one that has it all.
        timeout: seconds without any new row after which a process is an error.
        seed: root seed of the processes' global generators.
        name: the agent's name.
    """

    def __init__(
        self,
        agent: Agent,
        n_processes: int | None = None,
        *,
        timeout: float = 60.0,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(agent, n_processes, timeout, seed, name)
        self._before: Workspace | None = None

    def forward(self, **kwargs: Any) -> None:
        """Begins a run with ``kwargs``, and returns (the first time, once the processes have started).

        Raises:
            RemoteAgentError: the run before has not ended.
        """
        assert self.workspace is not None
        if self.is_running():
            raise RemoteAgentError(f"{self.label} is still running; wait for is_running() to be false, or for result()")
        self._before = self.workspace.clone()
        self._before.zero_grad()
        self._begin(self._before, kwargs)

    def is_running(self) -> bool:
        """Whether a run has begun and not ended.

        Raises:
            BbrlExpError: what an agent raised there, or that a process died or was stuck.
        """
        return not self._copies.is_done()

    def result(self) -> Workspace:
        """A new workspace with what the last call was given and what it wrote; waits for its end.

        Raises:
            BbrlExpError: as :meth:`is_running`.
            RemoteAgentError: there was no call.
        """
        if self._before is None:
            raise RemoteAgentError(f"{self.label} has not been called")
        self._copies.wait()
        result = self._before.clone()
        self._copies.write_to(result)
        return result

    def dry_copy(self) -> Agent:
        """A substitute that does nothing, as a call does nothing to its workspace."""
        return _Idle(self.name)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_before": None}


class _Idle(Agent):
    def forward(self, **kwargs: Any) -> None:
        pass
