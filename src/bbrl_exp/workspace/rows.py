"""Access to whole rows of several variables as arrays: for the CPU, without gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace.stepped import SteppedVariable
from bbrl_exp.workspace.variables import NamedVariables

RowFacts = Mapping[str, tuple[Sequence[int], DTypeLike]]


class RowWriter:
    """Gives agents the memory of whole rows, to be filled in place.

    ``rows(t)`` gives one array a variable, of which the caller fills every element; ``commit(t)`` then records them. An
    agent that raises in between leaves nothing recorded.

    Attributes:
        variables: name → (shape of a row ``[B, …]``, numpy dtype).
    """

    def __init__(self, workspace: NamedVariables, variables: RowFacts) -> None:
        self._workspace = workspace
        self.variables = variables
        self._bound: list[tuple[SteppedVariable, list[NDArray[Any]] | None]] = []
        self._by_time: list[tuple[NDArray[Any], ...]] = []
        self._layout = -1

    def rows(self, t: int) -> Sequence[NDArray[Any]]:
        """The memory of row ``t`` of each variable, in the order they were given in, arrays ``[B, …]``.

        Raises:
            WorkspaceError: a gap in time, or a variable that has another shape, dtype or device already.
        """
        if self._layout == self._workspace._layout and t.__class__ is int:
            # The usual case: every variable grows by one row, in the memory that it had before.
            for variable, memory in self._bound:
                if variable.n_steps != t or variable.numpy_rows is not memory:
                    break
            else:
                try:
                    return self._by_time[t]
                except IndexError:  # the memory is full
                    pass
        return self._prepare(t)

    def write(self, t: int, values: Sequence[NDArray[Any]]) -> None:
        """Writes row ``t`` of each variable from arrays ``[B, …]`` of its shape and dtype, which are copied.

        Raises:
            WorkspaceError: as :meth:`rows`, or an array of another shape or dtype; nothing is recorded then.
        """
        for row, value, name in zip(self.rows(t), values, self.variables, strict=True):
            if value.shape != row.shape or value.dtype != row.dtype:
                expected, found = f"{list(row.shape)} {row.dtype}", f"{list(value.shape)} {value.dtype}"
                raise WorkspaceError(f"'{name}' at t={t}: expected {expected}, found {found}")
            row[...] = value
        self.commit(t)

    def commit(self, t: int) -> None:
        """Records the rows ``t`` that :meth:`rows` gave out."""
        for variable, _ in self._bound:
            if variable.n_steps == t:
                variable.n_steps += 1
            else:
                variable.commit(t)

    def _prepare(self, t: int) -> Sequence[NDArray[Any]]:
        if not is_integer(t):
            raise WorkspaceError(f"{', '.join(self.variables)} at t={t!r}: a time step is an integer")
        variables = self._bind()
        try:
            rows = [variable.numpy_row(t) for variable in variables]
        except WorkspaceError as error:
            raise WorkspaceError(f"{', '.join(self.variables)} at t={t}: {error}") from None
        self._bound = [(variable, variable.numpy_rows) for variable in variables]
        self._by_time = list(zip(*(variable.numpy_rows or () for variable in variables), strict=False))
        self._layout = self._workspace._layout
        return rows

    def _bind(self) -> list[SteppedVariable]:
        cpu = torch.device("cpu")
        variables = []
        for name, (sizes, numpy_dtype) in self.variables.items():
            shape, dtype = torch.Size(sizes), torch.from_numpy(np.empty(0, numpy_dtype)).dtype
            variable = self._workspace._stepped(name, shape, dtype, cpu)
            if (variable.shape, variable.dtype, variable.device) != (shape, dtype, cpu):
                raise WorkspaceError(
                    f"'{name}': expected {list(variable.shape)} {variable.dtype} on {variable.device}, "
                    f"found {list(shape)} {dtype} on cpu"
                )
            variables.append(variable)
        return variables


class RowReader:
    """Shows agents whole rows of several variables as arrays, without gradients.

    The arrays are the workspace's memory: to be read, not written, and copied where they must be kept.
    """

    def __init__(self, workspace: NamedVariables, names: tuple[str, ...]) -> None:
        self._workspace = workspace
        self._names = names

    def rows(self, t: int) -> list[NDArray[Any]]:
        """Row ``t`` of each variable, in the order they were given in, arrays ``[B, …]``.

        Raises:
            WorkspaceError: an unknown variable, or a row that was never written.
        """
        variables = self._workspace._variables
        rows = []
        for name in self._names:
            variable = variables.get(name)
            if type(variable) is not SteppedVariable or t.__class__ is not int or not 0 <= t < variable.n_steps:
                rows.append(self._workspace.get(name, t).detach().numpy())
            elif variable.read_arrays is not None:
                rows.append(variable.read_arrays[t])
            else:
                rows.append(variable.numpy_read(t))
        return rows
