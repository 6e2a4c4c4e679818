"""BBRL's combinations of agents, on those of this project."""

from __future__ import annotations

from typing import Any, overload

from torch import Tensor

from bbrl_exp.agents import combinators, tools
from bbrl_exp.agents.agent import Agent as CoreAgent
from bbrl_exp.compat.agent import Agent


class Agents(combinators.Agents, Agent):
    """Runs agents in order on the same workspace; see :class:`bbrl_exp.agents.combinators.Agents`."""

    @overload
    def __getitem__(self, key: int | str) -> CoreAgent: ...
    @overload
    def __getitem__(self, key: slice) -> Agents: ...
    def __getitem__(self, key: int | str | slice) -> CoreAgent:
        """The member at a position, the member of that name, or the members of a slice."""
        return Agents(*super().__getitem__(key)) if isinstance(key, slice) else super().__getitem__(key)


class TemporalAgent(combinators.TemporalAgent, Agent):
    """Unrolls an agent over time; a stop variable may be of any dtype, as in BBRL.

    See :class:`bbrl_exp.agents.combinators.TemporalAgent`. ``n_steps=0`` runs no step; BBRL ran one.
    """

    def _stops(self, row: Tensor, stop_variable: str) -> bool:
        return bool(row.all())


class CopyTAgent(tools.CopyTAgent, Agent):
    """Copies a variable under another name."""


class PrintAgent(tools.PrintAgent, Agent):
    """Prints variables at every step."""

    def reset(self) -> None:
        """Prints all variables from now on."""
        self.names: tuple[Any, ...] = ()


class EpisodesDone(tools.EpisodesDone, Agent):
    """Latches the end of an episode."""
