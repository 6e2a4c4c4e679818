"""An agent: whatever reads and writes the workspace. Environments, policies, critics and printers are agents."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.agents.failure import failing_module, place_of
from bbrl_exp.agents.slices import BatchSlice, KnowsItsSlice
from bbrl_exp.agents.streams import RandomStreams
from bbrl_exp.bbrl_names import missing
from bbrl_exp.errors import ConfigurationError, WorkspaceError, ends_silently, user_code_error
from bbrl_exp.workspace import RowFacts, Workspace

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class Agent(nn.Module):
    """A module that is called on a workspace and, in ``forward``, reads and writes its variables.

    To write an agent, override ``forward(self, t, **kwargs)``; read with ``self.get(("env/env_obs", t))``,
    ``[B, …]``, and write with ``self.set(("action", t), value)``. An agent is called as ``agent(workspace, t=…)``;
    every keyword goes to ``forward``.

    Args:
        name: how the agent is found in a graph and named in messages.

    Attributes:
        workspace: the workspace that the agent is running on, None outside a call.
        prefix: put before the names of the variables that the agent writes, by agents that support it.
        reads: the variables that the agent reads, where it declares them; None lets the graph check find out.
        writes: the variables that the agent writes, likewise.
        sampling: of a policy that has a distribution over actions, whether it draws from it in evaluation mode too;
            None for agents that have none. Set by :meth:`sample_actions`; see there.
        is_on_cpu: whether ``to`` has left the agent on the CPU, where rows can be read and written as arrays.
    """

    reads: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None
    sampling: bool | None = None

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.prefix = ""
        self.workspace: Workspace | None = None
        self._agent_device = torch.device("cpu")
        self.is_on_cpu = True

    def __call__(self, workspace: Workspace, **kwargs: Any) -> None:
        """Runs ``forward(**kwargs)`` on ``workspace``.

        Raises:
            TypeError: ``workspace`` is not a Workspace.
            UserCodeError: an agent raised SystemExit, StopIteration or the like; the message says which one and where.
        """
        if not isinstance(workspace, Workspace):
            raise TypeError(f"{self.label} is called on a Workspace, not on {type(workspace).__name__}")
        attributes = self.__dict__
        outer = attributes["workspace"]
        attributes["workspace"] = workspace
        try:
            self.forward(**kwargs)
        except BaseException as error:
            if not ends_silently(error):
                raise
            failing = failing_module(error, (Agent,))
            assert isinstance(failing, Agent)  # at least this one
            raise user_code_error(error, f"in {failing.label}, {place_of(error, failing)}") from error
        finally:
            attributes["workspace"] = outer

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """What the agent does; to be written by each kind of agent."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def get(self, index: str | tuple[str, int]) -> Tensor:
        """Row ``t`` of a variable, ``[B, …]``, for an index ``(name, t)``; all its rows, ``[T, B, …]``, for a name.

        Raises:
            WorkspaceError: an unknown variable or a row that was never written; the message names this agent.
        """
        workspace = self.__dict__["workspace"]
        try:
            if isinstance(index, tuple):
                return workspace.get(*index)  # type: ignore[no-any-return]
            return workspace.get_full(index)  # type: ignore[no-any-return]
        except WorkspaceError as error:
            raise WorkspaceError(f"{self.label} reads {error}") from None

    def set(self, index: str | tuple[str, int], value: Tensor) -> None:
        """Writes row ``t`` of a variable, ``[B, …]``, for an index ``(name, t)``; all its rows for a name.

        Raises:
            WorkspaceError: a gap in time, or a value that does not fit the variable; the message names this agent.
        """
        workspace = self.__dict__["workspace"]
        try:
            if isinstance(index, tuple):
                workspace.set(*index, value)
            else:
                workspace.set_full(index, value)
        except WorkspaceError as error:
            raise WorkspaceError(f"{self.label} writes {error}") from None

    def read_rows(self, t: int, names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Rows ``t`` of several variables as arrays ``[B, …]`` of the workspace's memory: CPU, no gradients, no copies.

        They are read-only, and show what is written later: for use within the step.

        Raises:
            WorkspaceError: as :meth:`get`.
        """
        try:
            return self.__dict__["workspace"].row_reader(names).rows(t)  # type: ignore[no-any-return]
        except WorkspaceError as error:
            raise WorkspaceError(f"{self.label} reads {error}") from None

    def write_rows(self, t: int, variables: RowFacts, values: Sequence[NDArray[Any]]) -> None:
        """Writes rows ``t`` of several variables from arrays ``[B, …]``, which are copied: CPU, no gradients.

        Args:
            t: the time step.
            variables: name → (shape of a row ``[B, …]``, numpy dtype); best always the same object.
            values: one array per variable, of its shape and dtype.

        Raises:
            WorkspaceError: as :meth:`set`.
        """
        try:
            self.__dict__["workspace"].row_writer(variables).write(t, values)
        except WorkspaceError as error:
            raise WorkspaceError(f"{self.label} writes {error}") from None

    def get_time_truncated(self, name: str, from_time: int, to_time: int) -> Tensor:
        """Rows ``from_time`` … ``to_time - 1`` of a variable, ``[to_time - from_time, B, …]``.

        Raises:
            WorkspaceError: an unknown variable, or a window that is not wholly recorded.
        """
        try:
            return self.__dict__["workspace"].get_time_truncated(name, from_time, to_time)  # type: ignore[no-any-return]
        except WorkspaceError as error:
            raise WorkspaceError(f"{self.label} reads {error}") from None

    @property
    def agent_device(self) -> torch.device:
        """Where ``to`` has moved the agent; the CPU at first."""
        return self._agent_device

    @property
    def label(self) -> str:
        """The name of the agent in messages, which is its class and, where it has one, its name."""
        kind = type(self).__name__
        return kind if self.name is None else f"{kind} '{self.name}'"

    def get_name(self) -> str | None:
        """The agent's name."""
        return self.name

    def set_name(self, name: str) -> Self:
        """Names the agent and returns it."""
        self.name = name
        return self

    def with_prefix(self, prefix: str) -> Self:
        """Sets the prefix of the variables that the agent writes and returns the agent."""
        self.prefix = prefix
        return self

    def get_by_name(self, name: str) -> list[Agent]:
        """All agents of that name in the graph that begins here, this one included."""
        return [module for module in self.modules() if isinstance(module, Agent) and module.name == name]

    def sample_actions(self, sampling: bool = True) -> Self:
        """Sets whether the policies in the graph that begins here draw their actions in evaluation mode; returns it.

        Training mode is left as it is, and with it all that learns or explores there: statistics of normalisers,
        exploration noise, ε, actions at random. A custom policy supports this with one attribute: it has
        ``sampling = False`` in its class, and draws where ``self.training or self.sampling``.

        Args:
            sampling: True: actions are sampled; False, as at first: the most likely ones are taken.

        Raises:
            ConfigurationError: True, and no agent in the graph has a distribution over actions.
        """
        policies = [module for module in self.modules() if isinstance(module, Agent) and module.sampling is not None]
        if sampling and not policies:
            raise ConfigurationError("there is no distribution over actions to sample from; use the most likely action")
        for policy in policies:
            policy.sampling = sampling
        return self

    def seed(self, seed: int) -> None:
        """Restarts the random streams of the agent and of its members from the root ``seed``."""
        for part in _nearest_parts(self):
            part.seed(seed)

    def close(self) -> None:
        """Releases what the agent holds outside the process's memory; containers close their members."""
        for part in _nearest_parts(self):
            if isinstance(part, Agent):
                part.close()

    def clone(self) -> Self:
        """A copy with its own parameters, buffers and random streams, and no gradients."""
        clone = copy.deepcopy(self)
        for parameter in clone.parameters():
            parameter.grad = None
        return clone

    def dry_copy(self) -> Agent:
        """A substitute for the graph check: it reads and writes as this agent does and may be thrown away.

        A copy in which each agent with its own substitute is replaced by that.
        """
        stand_ins: dict[int, Any] = {
            id(module): module.dry_copy()
            for module in self.modules()
            if module is not self and isinstance(module, Agent) and type(module).dry_copy is not Agent.dry_copy
        }
        return copy.deepcopy(self, stand_ins)

    def for_slice(self, part: BatchSlice) -> Agent:
        """A copy for a part of the batch, to be pickled and sent to another process.

        A deep copy in which agents that override this method are replaced by what it returns, and modules that know
        their slice are given it.

        Raises:
            ConfigurationError: a module with a random generator of which nobody knows how its numbers are divided.
        """
        for path, module in self.named_modules():
            draws = any(isinstance(value, _GENERATORS) for value in vars(module).values())
            if draws and not isinstance(module, KnowsItsSlice):
                where = f" '{path}'" if path else ""
                raise ConfigurationError(
                    f"{type(module).__name__}{where} has a random generator, from which copies for parts of the batch "
                    f"would draw the same numbers; possible: a method take_slice, or one process"
                )
        stand_ins: dict[int, Any] = {
            id(module): module.for_slice(part)
            for module in self.modules()
            if module is not self and isinstance(module, Agent) and type(module).for_slice is not Agent.for_slice
        }
        copied = copy.deepcopy(self, stand_ins)
        for module in copied.modules():
            if isinstance(module, KnowsItsSlice):
                module.take_slice(part)
        return copied

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._agent_device = fn(torch.empty(0, device=self._agent_device)).device
        self.is_on_cpu = self._agent_device.type == "cpu"
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "workspace": None}


def _nearest_parts(module: nn.Module) -> Iterator[Agent | RandomStreams]:
    """The agents and streams that ``module`` contains and that no other agent in it contains."""
    for child in module.children():
        if isinstance(child, Agent | RandomStreams):
            yield child
        else:
            yield from _nearest_parts(child)


if not TYPE_CHECKING:
    __getattr__ = missing(__name__)
