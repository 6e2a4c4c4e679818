"""BBRL's agents in other processes, on those of this project."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
from torch import nn

from bbrl_exp.agents import remote
from bbrl_exp.agents.agent import Agent as CoreAgent
from bbrl_exp.compat.agent import Agent
from bbrl_exp.compat.gym import GymAgent
from bbrl_exp.compat.imports import install
from bbrl_exp.compat.workspace import Workspace
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace as CoreWorkspace


class _WithImports(CoreAgent):
    """Runs an agent; in another process, ``import bbrl`` is made to work before that is unpickled."""

    def __init__(self, agent: CoreAgent) -> None:
        super().__init__()
        self.agent = agent

    def forward(self, **kwargs: Any) -> None:
        assert self.workspace is not None
        self.agent(self.workspace, **kwargs)

    def dry_copy(self) -> CoreAgent:
        return self.agent.dry_copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> _WithImports:
        return _WithImports(copy.deepcopy(self.agent, memo))

    def __reduce__(self) -> tuple[Callable[[bytes], _WithImports], tuple[bytes]]:
        return _unpickled, (cloudpickle.dumps(self.agent),)


def _unpickled(agent: bytes) -> _WithImports:
    install()
    return _WithImports(pickle.loads(agent))


class RemoteAgent(remote.RemoteAgent, Agent):
    """Runs an agent in one other process; see :class:`bbrl_exp.agents.remote.RemoteAgent`.

    Args:
        agent: what runs there.
        name: the agent's name.
        verbose: kept as an attribute.
    """

    def __init__(self, agent: CoreAgent, name: str | None = None, verbose: bool = False) -> None:
        remote.RemoteAgent.__init__(self, _WithImports(agent), name=name)
        self.verbose = verbose


class NRemoteAgent(remote.NRemoteAgent, Agent):
    """Runs N copies of an agent, each with its own environments; :meth:`create` makes one.

    See :class:`bbrl_exp.agents.remote.NRemoteAgent`. The agent given to :meth:`create` has the environments of one
    process, as in BBRL; here they become N times as many, and each process has its part of them. What is changed in the
    parameters found by :meth:`get_by_name` goes along with the next call.
    """

    @staticmethod
    def create(
        agent: CoreAgent, num_processes: int = 0, time_size: int | None = None, **extra_kwargs: Any
    ) -> tuple[CoreAgent, Workspace]:
        """The agent in N processes, and the workspace to call it with.

        Args:
            agent: a graph with environment agents, for one process.
            num_processes: N; 0 for none: the graph itself is copied.
            time_size: unused: the workspace grows with the rows that are written.
            extra_kwargs: unused: the agent need not run to know its variables.

        Raises:
            ConfigurationError: a graph without environment agents that can be made N times as large.
        """
        if num_processes == 0:
            return copy.deepcopy(agent), Workspace()
        whole: dict[int, Any] = {}
        for module in agent.modules():
            if isinstance(module, GymAgent):
                whole[id(module)] = module.of_size(num_processes * module.num_envs)
        if not whole:
            raise ConfigurationError(
                "NRemoteAgent.create: no environment agent of bbrl.agents in the graph; use "
                "bbrl_exp.agents.remote.NRemoteAgent(agent, n_processes), which divides the batch of any agent"
            )
        copied = copy.deepcopy(agent, whole)
        return NRemoteAgent(_WithImports(copied), num_processes), Workspace()

    def seed(self, seed: int, inc: int = 1) -> None:
        """Starts every random stream again; ``inc`` is unused: streams of different processes share nothing."""
        super().seed(seed)

    def train(self, mode: bool = True) -> NRemoteAgent:
        """Training mode here, and there with the next call."""
        nn.Module.train(self, mode)
        return self

    def _asynchronous_call(self, workspace: CoreWorkspace, **kwargs: Any) -> None:
        self.__dict__["_written_to"] = workspace
        self._begin(workspace, kwargs)

    def is_running(self) -> bool:
        """Whether a call by ``_asynchronous_call`` has not ended; its workspace is complete once this is false."""
        workspace = self.__dict__.get("_written_to")
        if workspace is None:
            return False
        if not self._copies.is_done():
            return True
        self.__dict__["_written_to"] = None
        self._copies.wait()
        self._copies.write_to(workspace)
        return False


class AsynchronousAgent(remote.AsynchronousAgent, Agent):
    """Runs an agent in another process and does not wait; each call begins with an empty workspace.

    See :class:`bbrl_exp.agents.remote.AsynchronousAgent`.

    Args:
        agent: what runs there.
        verbose: kept as an attribute.
    """

    def __init__(self, agent: CoreAgent, verbose: bool = False) -> None:
        remote.AsynchronousAgent.__init__(self, _WithImports(agent))
        self.verbose = verbose

    def __call__(self, workspace: CoreWorkspace | None = None, **kwargs: Any) -> None:
        """Begins a run on a copy of ``workspace``, or on an empty one."""
        super().__call__(Workspace() if workspace is None else workspace, **kwargs)

    def get_workspace(self) -> CoreWorkspace | None:
        """What the last run has written; None while it is running, or before the first."""
        if self._before is None or self.is_running():
            return None
        return self.result()
