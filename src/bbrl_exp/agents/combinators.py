"""Agents made of agents: one after the other, and over time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import COUNT_FROM_0
from bbrl_exp.errors import ConfigurationError, WorkspaceError, did_you_mean
from bbrl_exp.workspace import Workspace


class Agents(Agent):
    """Runs several agents in order on the same workspace, with the same keywords.

    Args:
        agents: the agents, in the order in which they run.
        members: the agents as an ordered mapping name → agent instead; a member without a name takes its key as name.
        name: name of the whole.

    Raises:
        ConfigurationError: something that is not an agent, or both ways of giving the agents at once.
    """

    def __init__(self, *agents: Agent, members: Mapping[str, Agent] | None = None, name: str | None = None) -> None:
        super().__init__(name)
        if agents and members:
            raise ConfigurationError("Agents: give the agents as arguments or as members, not both")
        for member_name, agent in (members or {}).items():
            if isinstance(agent, Agent) and agent.name is None:
                agent.set_name(member_name)
        agents = agents or tuple((members or {}).values())
        for position, agent in enumerate(agents):
            if not isinstance(agent, Agent):
                raise ConfigurationError(f"Agents: member {position} is not an Agent but a {type(agent).__name__}")
        self.agents = nn.ModuleList(agents)

    def forward(self, **kwargs: Any) -> None:
        """Runs every member with ``kwargs``."""
        workspace = self.workspace
        for agent in self._modules["agents"]._modules.values():  # type: ignore[union-attr]
            cast(Any, agent)(workspace, **kwargs)

    def __iter__(self) -> Iterator[Agent]:
        return iter(cast("Iterator[Agent]", self.agents))

    def __len__(self) -> int:
        return len(self.agents)

    @overload
    def __getitem__(self, key: int | str) -> Agent: ...
    @overload
    def __getitem__(self, key: slice) -> Agents: ...
    def __getitem__(self, key: int | str | slice) -> Agent:
        """The member at a position, the member of that name, or the members of a slice, which stay the same objects.

        Raises:
            KeyError: no member of that name.
            IndexError: no member at that position.
        """
        if isinstance(key, slice):
            return Agents(*list(self)[key])
        if isinstance(key, int):
            return cast(Agent, self.agents[key])
        for agent in self:
            if agent.name == key:
                return agent
        names = [agent.name for agent in self if agent.name is not None]
        raise KeyError(f"no member '{key}'; members: {', '.join(names) or 'without names'}{did_you_mean(key, names)}")


class TemporalAgent(Agent):
    """Unrolls an agent over time: runs it at t, t + 1, t + 2, …

    Args:
        agent: the agent to unroll.
        name: name of the whole.
    """

    def __init__(self, agent: Agent, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(agent, Agent):
            raise ConfigurationError(f"TemporalAgent unrolls an Agent, not a {type(agent).__name__}")
        self.agent = agent

    def forward(self, t: int = 0, n_steps: int | None = None, stop_variable: str | None = None, **kwargs: Any) -> None:
        """Runs the agent from time ``t`` on, for ``n_steps`` steps at most.

        Args:
            t: first time step.
            n_steps: number of steps; None for no limit.
            stop_variable: a bool variable ``[T, B]``; the step at which it is true everywhere is the last.
            kwargs: passed to the agent at every step.

        Raises:
            ConfigurationError: neither a number of steps nor a stop variable, or a time or number of steps that is no
                whole number of at least 0.
            WorkspaceError: the stop variable is not bool.
        """
        if n_steps is None and stop_variable is None:
            raise ConfigurationError(f"{self.label} needs n_steps or stop_variable, else it would never end")
        COUNT_FROM_0.check(t=t, n_steps=n_steps)
        t = int(t)
        workspace = self.workspace
        assert workspace is not None
        end = None if n_steps is None else t + int(n_steps)
        if end is not None:
            workspace.reserve(end)
        unrolled = self.agent
        is_list = isinstance(unrolled, Agents) and type(unrolled).forward is Agents.forward
        agents = tuple(cast(Agents, unrolled)) if is_list else (unrolled,)
        runs: list[Callable[..., None]] = []
        outer: list[tuple[dict[str, Any], Workspace | None]] = []
        try:
            # Members are given the workspace once for all steps, and not through the slow setattr of modules.
            for agent in agents:
                if type(agent).__call__ is Agent.__call__:
                    attributes = agent.__dict__
                    outer.append((attributes, attributes["workspace"]))
                    attributes["workspace"] = workspace
                    runs.append(agent.forward)
                else:
                    runs.append(functools.partial(agent, workspace))
            while t != end:
                for run in runs:
                    run(t=t, **kwargs)
                if stop_variable is not None:
                    with torch.no_grad():
                        if self._stops(workspace.get(stop_variable, t), stop_variable):
                            return
                t += 1
        finally:
            for attributes, before in reversed(outer):
                attributes["workspace"] = before

    def _stops(self, row: Tensor, stop_variable: str) -> bool:
        """Whether a row of the stop variable is true everywhere."""
        if row.dtype != torch.bool:
            raise WorkspaceError(f"{self.label}: stop_variable '{stop_variable}' is {row.dtype}: must be torch.bool")
        return bool(row.all())
