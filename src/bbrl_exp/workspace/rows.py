"""Named variables, and access to whole rows of several of them as arrays: for the CPU, without gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import WorkspaceError, did_you_mean
from bbrl_exp.workspace.late import LateVariable
from bbrl_exp.workspace.stepped import SteppedVariable
from bbrl_exp.workspace.storage import SharedVariable, Variable, WholeVariable, check_name, row_error

RowFacts = Mapping[str, tuple[Sequence[int], DTypeLike]]


class NamedVariables:
    """Variables by name, each in the kind of storage that its last use asked for.

    Attributes:
        by_name: the variables, in the order of their first writes.
        reserved: rows for which a variable that is recorded step by step gets memory at once.
        layout: grows whenever a name gets other storage, so that what is bound to storage notices.
        late_starts: name of a variable that may be written first at t > 0 → whether the rows before are zeros; None for
            every name that is not there.
        batch_is_optional: whether a variable may be without a batch dimension.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Variable] = {}
        self.reserved = 0
        self.layout = 0
        self.late_starts: dict[str | None, bool] = {}
        self.batch_is_optional = False

    def put(self, name: str, variable: Variable) -> None:
        """Gives a name other storage."""
        self.by_name[name] = variable
        self.layout += 1

    def remove(self, name: str) -> None:
        """Forgets a variable, which is not of a shared workspace."""
        if isinstance(self.find(name), SharedVariable):
            raise WorkspaceError(f"'{name}': the variables of a shared workspace cannot be removed")
        del self.by_name[name]
        self.layout += 1

    def find(self, name: str) -> Variable:
        """The variable ``name``; a WorkspaceError that lists the others if there is none."""
        variable = self.by_name.get(name)
        if variable is None:
            raise self.unknown(name)
        return variable

    def stepped(
        self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device, t: int = 0
    ) -> SteppedVariable:
        """The variable in storage for writing step by step, converted if need be, or created for a first write at t."""
        variable = self.by_name.get(name)
        if isinstance(variable, SteppedVariable):
            return variable
        if variable is None:
            self.refuse_new(name)
            self._refuse_scalar(shape, dtype)
            stepped = self._new(name, shape, dtype, device, t)
        elif isinstance(variable, WholeVariable):
            variable.check_unchanged()
            stepped = SteppedVariable.from_tensor(variable.tensor, self.reserved)
        else:
            raise WorkspaceError("a shared variable cannot be recorded step by step by an environment")
        self.put(name, stepped)
        return stepped

    def _new(self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device, t: int) -> SteppedVariable:
        if t == 0:
            return SteppedVariable(shape, dtype, device, self.reserved)
        has_zeros = self.late_starts.get(name, self.late_starts.get(None))
        if t < 0:
            raise row_error(t, 0)
        if has_zeros is None:
            raise WorkspaceError(
                "a write of a variable that nobody has written; the first write is a row at t=0, or at a later time "
                f"after workspace.allow_late_start({name!r})"
            )
        if not has_zeros:
            return LateVariable(t, shape, dtype, device, self.reserved)
        stepped = SteppedVariable(shape, dtype, device, max(self.reserved, t + 1))
        stepped.extend(torch.zeros((t, *shape), dtype=dtype, device=device))
        return stepped

    def _refuse_scalar(self, shape: torch.Size, dtype: torch.dtype) -> None:
        if shape or self.batch_is_optional:
            return
        size = next((str(variable.shape[0]) for variable in self.by_name.values() if variable.shape), "B")
        raise WorkspaceError(
            f"expected a row [{size}, …], found a scalar {str(dtype).removeprefix('torch.')} [], which has no batch "
            "dimension"
        )

    def refuse_new(self, name: str) -> None:
        """Refuses a name under which no variable can be created."""
        check_name(name)
        if any(isinstance(variable, SharedVariable) for variable in self.by_name.values()):
            raise WorkspaceError(
                f"'{name}': a shared workspace takes no new variable; it has {', '.join(self.by_name)}"
            )

    def refusal(self, name: object, t: object, error: Exception) -> Exception:
        """The error of reading or writing row ``t``, where ``error`` was raised on the way."""
        if isinstance(error, KeyError):
            return self.unknown(name, t)
        if isinstance(error, WorkspaceError):
            return WorkspaceError(f"'{name}' at t={t}: {error}")
        if not isinstance(name, str):
            return self.unknown(name)
        return error if is_integer(t) else WorkspaceError(f"'{name}' at t={t!r}: a time step is an integer")

    def unknown(self, name: object, t: object = None) -> WorkspaceError:
        """The error of asking for a variable that is not there."""
        if not isinstance(name, str):
            return WorkspaceError(f"a variable's name is a string, found {name!r}")
        when = "" if t is None else f" at t={t}"
        present = ", ".join(self.by_name) or "none"
        return WorkspaceError(
            f"'{name}'{when}: nobody has written this variable; present: {present}{did_you_mean(name, self.by_name)}"
        )


class RowWriter:
    """Gives agents the memory of whole rows, to be filled in place.

    ``rows(t)`` gives one array per variable, of which the caller fills every element; ``commit(t)`` then records them.
    An agent that raises in between leaves nothing recorded.

    Attributes:
        variables: name → (shape of a row ``[B, …]``, numpy dtype).
    """

    def __init__(self, named: NamedVariables, variables: RowFacts) -> None:
        self._named = named
        self.variables = variables
        self._bound: list[tuple[SteppedVariable, list[NDArray[Any]] | None]] = []
        self._by_time: list[tuple[NDArray[Any], ...]] = []
        self._layout = -1

    def rows(self, t: int) -> Sequence[NDArray[Any]]:
        """The memory of row ``t`` of each variable, in the order they were given in, arrays ``[B, …]``.

        Raises:
            WorkspaceError: a gap in time, or a variable that has another shape, dtype or device already.
        """
        if self._layout == self._named.layout and t.__class__ is int:
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
        variables = [self._variable(t, name, *facts) for name, facts in self.variables.items()]
        try:
            rows = [variable.numpy_row(t) for variable in variables]
        except WorkspaceError as error:
            raise WorkspaceError(f"{', '.join(self.variables)} at t={t}: {error}") from None
        self._bound = [(variable, variable.numpy_rows) for variable in variables]
        self._by_time = list(zip(*(variable.numpy_rows or () for variable in variables), strict=False))
        self._layout = self._named.layout
        return rows

    def _variable(self, t: int, name: str, sizes: Sequence[int], numpy_dtype: DTypeLike) -> SteppedVariable:
        cpu = torch.device("cpu")
        shape, dtype = torch.Size(sizes), torch.from_numpy(np.empty(0, numpy_dtype)).dtype
        try:
            variable = self._named.stepped(name, shape, dtype, cpu, t)
        except WorkspaceError as error:
            raise WorkspaceError(f"'{name}' at t={t}: {error}") from None
        if (variable.shape, variable.dtype, variable.device) != (shape, dtype, cpu):
            raise WorkspaceError(
                f"'{name}': expected {list(variable.shape)} {variable.dtype} on {variable.device}, "
                f"found {list(shape)} {dtype} on cpu"
            )
        return variable


class RowReader:
    """Shows agents whole rows of several variables as arrays, without gradients.

    The arrays are the workspace's memory: to be read, not written, and copied where they must be kept.
    """

    def __init__(self, named: NamedVariables, names: tuple[str, ...]) -> None:
        self._named = named
        self._variables = named.by_name
        self._names = names

    @property
    def layout(self) -> int:
        """Changes whenever a variable gets other storage, as for values of another shape or dtype."""
        return self._named.layout

    def rows(self, t: int) -> list[NDArray[Any]]:
        """Row ``t`` of each variable, in the order they were given in, arrays ``[B, …]``.

        Raises:
            WorkspaceError: an unknown variable, or a row that was never written.
        """
        variables = self._variables
        rows = []
        for name in self._names:
            variable = variables.get(name)
            if type(variable) is not SteppedVariable or t.__class__ is not int or not 0 <= t < variable.n_steps:
                try:
                    rows.append(variables[name].read(t).detach().numpy())
                except (KeyError, TypeError, WorkspaceError) as error:
                    raise self._named.refusal(name, t, error) from None
            elif variable.read_arrays is not None:
                rows.append(variable.read_arrays[t])
            else:
                rows.append(variable.numpy_read(t))
        return rows
