"""Named variables, of which one row is read or written at a time."""

from __future__ import annotations

from collections.abc import Callable, KeysView

import torch
from torch import Tensor

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import WorkspaceError, did_you_mean
from bbrl_exp.workspace.checks import BatchDims, batch_slice
from bbrl_exp.workspace.stepped import SteppedVariable
from bbrl_exp.workspace.storage import SharedVariable, Variable, WholeVariable


class NamedVariables:
    """Variables by name, each in the kind of storage that its last use asked for."""

    def __init__(self) -> None:
        self._variables: dict[str, Variable] = {}
        self._begin()

    def _begin(self) -> None:
        self._reserved = 0
        # Grows whenever a name gets other storage, so that what is bound to storage notices.
        self._layout = 0

    def set(self, name: str, t: int, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Writes row ``t`` of a variable.

        Args:
            name: the variable; it is created by its first write, at t = 0.
            t: the time step, at most one after the last row.
            value: ``[B, …]``, of the variable's shape, dtype and device.
            batch_dims: (start, stop): only these batch elements of an existing row; ``value`` is then
                ``[stop - start, …]``.

        Raises:
            WorkspaceError: a gap in time, a negative t, or a value that does not fit.
        """
        try:
            variable = self._variables.get(name)
            if type(variable) is SteppedVariable and batch_dims is None and t.__class__ is int:
                variable.write(t, value)
            else:
                self._set_slowly(variable, name, t, value, batch_dims)
        except (TypeError, WorkspaceError) as error:
            raise self._refusal(name, t, error) from None

    def get(self, name: str, t: int, batch_dims: BatchDims | None = None) -> Tensor:
        """Row ``t`` of a variable, ``[B, …]``; with ``batch_dims`` = (start, stop) only these batch elements of it.

        Raises:
            WorkspaceError: an unknown variable, or a row that was never written.
        """
        try:
            row = self._variables[name].read(t)
        except (KeyError, TypeError, WorkspaceError) as error:
            raise self._refusal(name, t, error) from None
        return row if batch_dims is None else row[batch_slice(batch_dims, row.shape, name)]

    # Facts

    def keys(self) -> KeysView[str]:
        """The names of the variables, in the order of their first writes."""
        return self._variables.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __len__(self) -> int:
        return len(self._variables)

    def n_steps(self, name: str) -> int:
        """Number of recorded rows of one variable.

        Raises:
            WorkspaceError: an unknown variable.
        """
        return self._variable(name).n_steps

    def variable_facts(self) -> dict[str, tuple[int, torch.Size, torch.dtype, torch.device]]:
        """Number of rows, shape ``[B, …]`` of a row, dtype and device of every variable."""
        return {name: (each.n_steps, each.shape, each.dtype, each.device) for name, each in self._variables.items()}

    def time_size(self) -> int:
        """T, the number of time steps that every variable has.

        Raises:
            WorkspaceError: there is no variable, or they differ; the message says which.
        """
        return self._common("time size", lambda variable: variable.n_steps)

    def batch_size(self) -> int:
        """B, the batch size that every variable has.

        Raises:
            WorkspaceError: there is no variable, or they differ; the message says which.
        """
        return self._common("batch size", lambda variable: variable.shape[0] if variable.shape else None)

    def __repr__(self) -> str:
        if not self._variables:
            return "Workspace(empty)"
        width = max(len(name) for name in self._variables)
        lines = ["Workspace"]
        for name, variable in self._variables.items():
            shape = [variable.n_steps, *variable.shape]
            dtype = str(variable.dtype).removeprefix("torch.")
            lines.append(f"  {name:<{width}}  {shape!s:<16} {dtype:<8} {variable.device}")
        return "\n".join(lines)

    # Internal

    def _refusal(self, name: object, t: object, error: Exception) -> Exception:
        """The error of reading or writing row ``t``, where ``error`` was raised on the way."""
        if isinstance(error, KeyError):
            return self._unknown(name, t)
        if isinstance(error, WorkspaceError):
            return WorkspaceError(f"'{name}' at t={t}: {error}")
        if not isinstance(name, str):
            return self._unknown(name)
        return error if is_integer(t) else WorkspaceError(f"'{name}' at t={t!r}: a time step is an integer")

    def _set_slowly(
        self, variable: Variable | None, name: str, t: int, value: Tensor, batch_dims: BatchDims | None
    ) -> None:
        if not is_integer(t):
            raise TypeError
        if variable is not None and batch_dims is not None:
            batch_slice(batch_dims, variable.shape, name)
        if isinstance(variable, SharedVariable):
            variable.write(t, value, *(batch_dims or (0, None)))
            return
        if variable is None:
            if not isinstance(value, Tensor):
                raise WorkspaceError(f"expected a torch.Tensor, found {type(value).__name__}")
            if t != 0 or batch_dims is not None:
                what = "part of a row" if batch_dims is not None else "a write"
                raise WorkspaceError(f"{what} of a variable that nobody has written; the first write is a row at t=0")
            stepped = self._stepped(name, value.shape, value.dtype, value.device)
        else:
            stepped = self._stepped(name, variable.shape, variable.dtype, variable.device)
        if batch_dims is None:
            stepped.write(t, value)
        else:
            stepped.write_part(t, *batch_dims, value)

    def _stepped(self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> SteppedVariable:
        """The variable in storage for writing step by step, created or converted if need be."""
        variable = self._variables.get(name)
        if isinstance(variable, SteppedVariable):
            return variable
        if variable is None:
            self._refuse_new_variable(name)
            stepped = SteppedVariable(shape, dtype, device, self._reserved)
        elif isinstance(variable, WholeVariable):
            stepped = SteppedVariable.from_tensor(variable.tensor, self._reserved)
        else:
            raise WorkspaceError("a shared variable cannot be recorded step by step by an environment")
        self._put(name, stepped)
        return stepped

    def _put(self, name: str, variable: Variable) -> None:
        self._variables[name] = variable
        self._layout += 1

    def _variable(self, name: str) -> Variable:
        variable = self._variables.get(name)
        if variable is None:
            raise self._unknown(name)
        return variable

    def _common(self, what: str, size_of: Callable[[Variable], int | None]) -> int:
        if not self._variables:
            raise WorkspaceError(f"an empty workspace has no {what}")
        sizes = {name: size_of(variable) for name, variable in self._variables.items()}
        first = next(iter(sizes.values()))
        if first is None or len(set(sizes.values())) > 1:
            raise WorkspaceError(f"there is no common {what}: {', '.join(f'{n}: {s}' for n, s in sizes.items())}")
        return first

    def _unknown(self, name: object, t: object = None) -> WorkspaceError:
        if not isinstance(name, str):
            return WorkspaceError(f"a variable's name is a string, found {name!r}")
        when = "" if t is None else f" at t={t}"
        present = ", ".join(self._variables) or "none"
        hint = did_you_mean(name, self._variables)
        return WorkspaceError(f"'{name}'{when}: nobody has written this variable; present: {present}{hint}")

    def _refuse_new_variable(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise WorkspaceError(f"a variable's name is a non-empty string, found {name!r}")
        if any(isinstance(variable, SharedVariable) for variable in self._variables.values()):
            known = ", ".join(self._variables)
            raise WorkspaceError(f"'{name}': a shared workspace takes no new variable; it has {known}")
