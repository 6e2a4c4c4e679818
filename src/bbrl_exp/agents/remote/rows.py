"""The rows of a workspace on their way to an agent in another process, and back.

A call at time t takes along rows t - 1, t, … of every variable, which is all that a rollout from t on reads. The same
rows of the variables that have changed come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.remote.state import same_bits
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.errors import RemoteAgentError, WorkspaceError
from bbrl_exp.workspace import Workspace
from bbrl_exp.workspace.stepped import SteppedVariable


class Rows(NamedTuple):
    """Rows ``first``, ``first + 1``, … of one variable, ``[n, B, …]``."""

    first: int
    values: Tensor


def rows_from(workspace: Workspace, t: int, part: BatchSlice | None) -> dict[str, Rows]:
    """The rows that a call at time ``t`` takes along, of the batch elements of ``part``.

    Raises:
        WorkspaceError: a variable that is not on the CPU, or not of the size of the batch.
    """
    found = {}
    for name, (n_steps, shape, _, device) in workspace.variable_facts().items():
        if device.type != "cpu":
            raise WorkspaceError(f"'{name}': remote agents share rows on the cpu, found {device}")
        if part is not None and (not shape or shape[0] != part.whole):
            raise WorkspaceError(f"'{name}': copies share rows [{part.whole}, …], found {list(shape)}")
        first = max(0, min(t, n_steps) - 1)
        is_one = first == n_steps - 1  # which is there without a look at the others
        values = workspace.get(name, first).unsqueeze(0) if is_one else workspace[name][first:]
        found[name] = Rows(first, _part_of(values, part))
    return found


class ReceivedWorkspace(Workspace):
    """A workspace in which a call finds the rows that it took along."""

    def __init__(self, received: Mapping[str, Rows]) -> None:
        super().__init__()
        self._received = received
        for name, rows in received.items():
            if rows.first:
                self._named.put(name, _LaterRows(rows))
            else:
                self.extend(name, rows.values)

    def changes(self) -> dict[str, Rows | None]:
        """Of each variable that the call has changed the rows that it took along and has written; None if removed."""
        changes: dict[str, Rows | None] = {name: None for name in self._received if name not in self._variables}
        for name, variable in self._variables.items():
            first, before = self._received.get(name, (0, None))
            if isinstance(variable, _LaterRows):
                values = variable.later()
            else:  # all rows have come along, or it was removed and begins again
                first, values = 0, variable.full()
            if before is None or not same_bits(before, values):
                changes[name] = Rows(first, values)
        return changes

    def n_rows(self) -> int:
        """Number of rows of all variables: it changes while the agent makes progress."""
        return sum(variable.n_steps for variable in list(self._variables.values()))


def write_changes(
    workspace: Workspace, changes: Sequence[Mapping[str, Rows | None]], parts: Sequence[BatchSlice | None]
) -> None:
    """Does to ``workspace``, as it was when the call began, what the call has done in the copies, each of its part.

    Raises:
        RemoteAgentError: the slices do not fit together.
    """
    for name in dict.fromkeys(name for of_copy in changes for name in of_copy):
        first = next((rows.first for of_copy in changes if (rows := of_copy.get(name)) is not None), None)
        if first is None:
            workspace.remove_variable(name)
            continue
        is_there = name in workspace
        pieces = []
        for index, (of_copy, part) in enumerate(zip(changes, parts, strict=True)):
            rows = of_copy.get(name)
            if name not in of_copy and is_there:  # it has not changed in this slice
                rows = Rows(first, _part_of(workspace[name][first:], part))
            if rows is None or (part is not None and rows.values.shape[1:2] != (part.count,)):
                n, found = part.count if part else "B", "nothing" if rows is None else list(rows.values.shape[1:])
                raise RemoteAgentError(f"'{name}': copies of an agent share rows [{n}, …], copy {index} wrote {found}")
            pieces.append(rows.values)
        if len({(len(piece), piece.shape[2:], piece.dtype) for piece in pieces}) > 1:
            found = ", ".join(f"{list(piece.shape)} {piece.dtype}" for piece in pieces)
            raise RemoteAgentError(f"copies of the agent wrote different rows of '{name}': {found}")
        values = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
        if is_there and workspace.variable_facts()[name][1:3] != (values.shape[1:], values.dtype):
            workspace.remove_variable(name)
            is_there = False
        _write(workspace, name, first, values, workspace.n_steps(name) if is_there else 0)


def _write(workspace: Workspace, name: str, t: int, values: Tensor, n_before: int) -> None:
    """Writes rows from ``t`` on, which are then the last ones; those that are there already keep their gradients."""
    n_same = 0
    while t + n_same < n_before and n_same < len(values) and same_bits(workspace.get(name, t + n_same), values[n_same]):
        n_same += 1
    if t + n_same == n_before:
        workspace.extend(name, values[n_same:])
    else:
        workspace.set_full(name, torch.cat([workspace[name][: t + n_same], values[n_same:]]))


def _part_of(values: Tensor, part: BatchSlice | None) -> Tensor:
    return values if part is None else values[:, part.first : part.first + part.count]


class _LaterRows(SteppedVariable):
    """A variable of which the rows before a certain one have not come along."""

    __slots__ = ("_first",)

    def __init__(self, rows: Rows) -> None:
        capacity = 2 * (rows.first + len(rows.values))  # of which those that stayed elsewhere take no memory
        super().__init__(rows.values.shape[1:], rows.values.dtype, rows.values.device, capacity)
        self._first = self.n_steps = rows.first
        self.extend(rows.values)

    def later(self) -> Tensor:
        """The rows that have come along or were written."""
        return super().full()[self._first :]

    def read(self, t: int) -> Tensor:
        self._refuse_before(t)
        return super().read(t)

    def full(self) -> Tensor:
        self._refuse_before(0)
        return super().full()

    def write(self, t: int, value: Tensor) -> None:
        self._refuse_before(t)
        super().write(t, value)

    def numpy_row(self, t: int) -> NDArray[Any]:
        self._refuse_before(t)
        return super().numpy_row(t)

    def keep_first(self, n: int) -> None:
        self._refuse_before(n)
        super().keep_first(n)

    def keep_last(self, n: int) -> None:
        self._refuse_before(0)

    def _refuse_before(self, t: int) -> None:
        if 0 <= t < self._first:
            raise WorkspaceError(
                f"row t={t} stayed in the other process: a remote agent called at t={self._first + 1} has the rows "
                f"from t={self._first} on; call it at t=0, or run it here"
            )
