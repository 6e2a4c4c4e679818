"""The agents of a graph that hold a memory, and how they are run on rows that are known."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.agents.graph_check import check_graph
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.without_environments import Uses, members_of, needed_for
from bbrl_exp.testing.differences import Rows
from bbrl_exp.testing.tape import Tape, TapeEnvironments
from bbrl_exp.workspace import Workspace

STATE, NEXT_STATE = "/state", "/next_state"


@dataclass(frozen=True)
class Memory:
    """Who remembers, and where.

    Attributes:
        holders: positions, among the members without the environments, of those that remember or act.
        carried: variables that a holder writes and reads again in a later row.
        written: all variables that holders write but the actions.
        actions: the leaves of the action.
    """

    holders: tuple[int, ...]
    carried: tuple[str, ...]
    written: tuple[str, ...]
    actions: tuple[str, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """What holds the memory: what is carried on, and ``<name>/state`` beside ``<name>/next_state``."""
        return tuple(name for name in self.written if name in self.carried or name in self._in_pairs)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The variables ``<name>/state`` and ``<name>/next_state``."""
        stems = [name.removesuffix(STATE) for name in self.written if name.endswith(STATE)]
        return tuple((stem + STATE, stem + NEXT_STATE) for stem in stems if stem + NEXT_STATE in self.written)

    @property
    def _in_pairs(self) -> set[str]:
        return {name for pair in self.pairs for name in pair}

    @classmethod
    def of(cls, graph: Agent) -> Memory:
        """That of a graph in which a :class:`TapeEnvironments` is a member."""
        members = list(members_of(_unrolled(graph)))
        environments = environments_of(graph)
        if environments not in members:
            raise ConfigurationError("check-memory needs a graph in which the environment agent is a member of its own")
        facts = check_graph(Agents(*members))
        uses = {member: Uses.of(member, facts) for member in members}
        actions = tuple(leaf.name for leaf in environments.env_spec.actions)
        acting = needed_for(actions, uses)
        members.remove(environments)
        holders, carried = [], set[str]()
        for index, member in enumerate(members):
            again = uses[member].reads & uses[member].writes
            paired = {name for name in again if name.endswith(NEXT_STATE)}
            is_memory = again if member in acting else paired
            carried |= is_memory
            if is_memory or uses[member].writes & set(actions):
                holders.append(index)
        names = frozenset[str]().union(*(uses[members[index]].writes for index in holders))
        written = tuple(fact.name for fact in facts if fact.name in names and fact.name not in actions)
        return cls(tuple(holders), tuple(name for name in written if name in carried), written, actions)

    def of_members(self, members: Sequence[Agent]) -> list[Agent]:
        """The holders among the members."""
        return [members[index] for index in self.holders]

    def supplied(self, rows: Rows) -> tuple[str, ...]:
        """The variables of ``rows`` that holders do not write."""
        return tuple(name for name in rows if name not in self.written and name not in self.actions)


def environments_of(graph: Agent) -> TapeEnvironments:
    """The environments of a graph that show a tape."""
    return next(module for module in graph.modules() if isinstance(module, TapeEnvironments))


def members_without_environments(graph: Agent) -> list[Agent]:
    """The agents of a graph that run one after the other, but for the environments."""
    return [member for member in members_of(_unrolled(graph)) if not isinstance(member, TapeEnvironments)]


def _unrolled(graph: Agent) -> Agent:
    return graph.agent if isinstance(graph, TemporalAgent) else graph


def play(members: Sequence[Agent], tape: Tape) -> Workspace:
    """Lets members act on a tape from its first row to its last, without gradients."""
    workspace = Workspace()
    with torch.inference_mode():
        TemporalAgent(Agents(TapeEnvironments(tape), *members))(workspace, t=0, n_steps=len(tape))
    return workspace


def rows_of(workspace: Workspace, names: Collection[str], first: int = 0) -> dict[str, Tensor]:
    """A copy of the rows of variables from row ``first`` on."""
    return {name: workspace[name][first:].detach().clone() for name in names}


def repeat(
    members: Sequence[Agent],
    memory: Memory,
    rows: Rows,
    *,
    first_row_is_known: bool = False,
    inputs: Mapping[str, Sequence[Tensor]] | None = None,
) -> Workspace:
    """Runs the holders of a memory again on rows that were recorded, with the actions that were taken.

    Args:
        members: all members but the environments.
        memory: which of them are run.
        rows: every variable, ``[T, B, …]``.
        first_row_is_known: whether row 0 is taken as it was recorded, so that the holders begin at row 1.
        inputs: rows, ``[B, …]`` each, in place of those of ``rows``.
    """
    workspace = Workspace()
    supplied, n_rows = memory.supplied(rows), len(next(iter(rows.values())))
    given: Mapping[str, Tensor | Sequence[Tensor]] = {**rows, **(inputs or {})}
    supply = _Rows({name: given[name] for name in supplied})
    actions = _Rows({name: rows[name] for name in memory.actions})
    if first_row_is_known:
        for name, value in rows.items():
            workspace.set(name, 0, value[0])
    first = int(first_row_is_known)
    if n_rows > first:
        graph = TemporalAgent(Agents(supply, *memory.of_members(members), actions))
        graph(workspace, t=first, n_steps=n_rows - first)
    return workspace


class _Rows(Agent):
    """Writes rows that are known."""

    def __init__(self, rows: Mapping[str, Tensor | Sequence[Tensor]]) -> None:
        super().__init__()
        self._rows = rows

    def forward(self, t: int, **kwargs: object) -> None:
        for name, value in self._rows.items():
            self.set((name, t), value[t])


def changing_attributes(members: Sequence[Agent], tape: Tape, other: Tape) -> list[str]:
    """Arrays of numbers in attributes of members that are others after acting: what is remembered there."""
    play(members, tape)
    before = _numbers(members)
    play(members, other)
    after = _numbers(members)
    return [name for name, value in after.items() if name not in before or not _same(before[name], value)]


def _numbers(members: Sequence[Agent]) -> dict[str, Tensor]:
    found = {}
    for member in members:
        for path, module in member.named_modules():
            held = {**vars(module), **module._buffers}
            for name, value in held.items():
                if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.is_floating_point():
                    label = ".".join(filter(None, (member.name or type(member).__name__, path, name)))
                    found[label] = value.detach().clone()
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


@contextlib.contextmanager
def evaluating(members: Sequence[Agent]) -> Iterator[None]:
    """Puts members into evaluation mode while the block runs."""
    modes = [(module, module.training) for member in members for module in member.modules()]
    for member in members:
        member.train(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
