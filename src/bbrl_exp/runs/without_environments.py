"""The graph of a run with the environments left out, and what of it an action depends on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents
from bbrl_exp.agents.graph_check import VariableFacts
from bbrl_exp.agents.remote.agents import NRemoteAgent, RemoteAgent
from bbrl_exp.config.graph import build_graph_of
from bbrl_exp.workspace import RowFacts

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent


class Outside(Agent):
    """Takes the place of the environments in a graph, and writes the rows that come from outside.

    Args:
        stand_in: what takes their place in the graph check.

    Attributes:
        layout: variables that are written, with shape ``[B, …]`` and dtype of their rows; empty in the graph check.
        rows: one array or tensor for each.
    """

    def __init__(self, stand_in: Agent) -> None:
        super().__init__(stand_in.name)
        self.stand_in = stand_in
        self.layout: RowFacts = {}
        self.rows: list[Any] = []

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes row ``t``."""
        if not self.layout:
            assert self.workspace is not None
            self.stand_in(self.workspace, t=t)
        elif self.is_on_cpu:
            self.write_rows(t, self.layout, self.rows)
        else:
            for name, row in zip(self.layout, self.rows, strict=True):
                self.set((name, t), torch.as_tensor(row, device=self.agent_device))


def graph_without_environments(config: Mapping[str, Any], batch_size: int | None = None) -> TemporalAgent:
    """The graph of a configuration in evaluation mode, with an :class:`Outside` in place of each environment agent.

    Args:
        config: resolved and checked.
        batch_size: number B of environments; None for that of the configuration.
    """
    graph = build_graph_of(config, stand_in=lambda single, size, *_: Outside(single.dry_copy(batch_size or size)))
    return graph.train(False)


def members_of(agent: Agent) -> Iterator[Agent]:
    """The agents that run one after the other; those of remote agents run here."""
    if isinstance(agent, RemoteAgent | NRemoteAgent):
        yield from members_of(agent.agent)
    elif type(agent) is Agents:
        for member in agent:
            yield from members_of(member)
    else:
        yield agent


@dataclass(frozen=True)
class Uses:
    """The variables that an agent reads and writes, those that it declares included."""

    reads: frozenset[str]
    writes: frozenset[str]

    @classmethod
    def of(cls, agent: Agent, facts: Collection[VariableFacts]) -> Uses:
        """What the graph check found."""
        parts = [module for module in agent.modules() if isinstance(module, Agent)]
        names = {part.name or type(part).__name__ for part in parts}
        reads = {name for part in parts for name in part.reads or ()}
        return cls(
            frozenset(reads.union(fact.name for fact in facts if names.intersection(fact.readers))),
            frozenset(fact.name for fact in facts if names.intersection(fact.writers)),
        )


def union_of(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    """What is in any of the sets."""
    return frozenset().union(*sets)


def needed_for(variables: Iterable[str], uses: Mapping[Agent, Uses]) -> list[Agent]:
    """The agents, in their order, on which variables depend."""
    wanted, needed = frozenset(variables), set[Agent]()
    while more := {agent for agent, each in uses.items() if each.writes & wanted} - needed:
        needed |= more
        wanted |= union_of(uses[agent].reads for agent in more)
    return [agent for agent in uses if agent in needed]
