"""A recording: named variables ``[T, B, …]`` with all their rows, written step by step or whole, cut into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, KeysView, Mapping
from typing import Self, overload

import torch
from torch import Tensor

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace.late import LateVariable
from bbrl_exp.workspace.rows import NamedVariables, RowFacts, RowReader, RowWriter
from bbrl_exp.workspace.stepped import SteppedVariable
from bbrl_exp.workspace.storage import (
    BatchDims,
    SharedVariable,
    Variable,
    WholeVariable,
    batch_slice,
    check_count,
    check_indexes,
    check_name,
    check_rows,
    check_window,
)


class Recording:
    """Everything of a workspace but pickling, sharing and what only BBRL programs call."""

    def __init__(self, workspace: Recording | None = None) -> None:
        self._named = NamedVariables()
        self._variables = self._named.by_name
        self._row_writers: dict[tuple[str, ...], RowWriter] = {}
        self._last_writer: RowWriter | None = None
        self._row_readers: dict[tuple[str, ...], RowReader] = {}
        if workspace is not None:
            self._take_over(workspace, workspace._each(lambda variable: variable.mapped(torch.clone, keeps_time=True)))

    def allow_late_start(self, *names: str, zeros_before: bool = False) -> Self:
        """Allows the first write of variables to be at a time t > 0, as of an agent that runs at t = 1 only.

        The rows before are unwritten, and reading them is refused: read the others with ``get(name, t)`` or
        ``get_time_truncated``. Rows that follow must still leave no gap.

        Args:
            names: the variables; none means every variable that is not there yet.
            zeros_before: the rows before are zeros instead, as in BBRL.

        Returns:
            This workspace. Workspaces that are made from it, such as a clone or a window of time, allow the same.

        Raises:
            WorkspaceError: something else than a name.
        """
        for name in names:
            check_name(name)
        self._named.late_starts.update(dict.fromkeys(names or (None,), zeros_before))
        return self

    def set(self, name: str, t: int, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Writes row ``t`` of a variable.

        Args:
            name: the variable; it is created by its first write, at t = 0 (see :meth:`allow_late_start`).
            t: the time step, at most one after the last row.
            value: ``[B, …]``, of the variable's shape, dtype and device.
            batch_dims: (start, stop): only these batch elements of an existing row; ``value`` is then
                ``[stop - start, …]``.

        Raises:
            WorkspaceError: a gap in time, a negative t, a scalar without a batch dimension, or a value that does not
                fit.
        """
        try:
            variable = self._variables.get(name)
            if type(variable) is SteppedVariable and batch_dims is None and t.__class__ is int:
                variable.write(t, value)
            else:
                self._set_slowly(variable, name, t, value, batch_dims)
        except (TypeError, WorkspaceError) as error:
            raise self._named.refusal(name, t, error) from None

    def get(self, name: str, t: int, batch_dims: BatchDims | None = None) -> Tensor:
        """Row ``t`` of a variable, ``[B, …]``; with ``batch_dims`` = (start, stop) only these batch elements of it.

        Raises:
            WorkspaceError: an unknown variable, or a row that was never written.
        """
        try:
            row = self._variables[name].read(t)
        except (KeyError, TypeError, WorkspaceError) as error:
            raise self._named.refusal(name, t, error) from None
        return row if batch_dims is None else row[batch_slice(batch_dims, row.shape, name)]

    # Whole variables

    def set_full(self, name: str, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Replaces all rows of a variable by ``value``, ``[T, B, …]``, which is kept, not copied.

        With ``batch_dims`` = (start, stop), ``value`` is ``[T, stop - start, …]`` and only these batch elements of the
        recorded rows are overwritten.

        Raises:
            WorkspaceError: not a tensor of time and batch, or rows of another shape, dtype or device.
        """
        check_rows(name, value, batch_is_optional=self._named.batch_is_optional)
        if batch_dims is not None:
            if len(value) != self.n_steps(name):
                raise WorkspaceError(f"'{name}': expected {self.n_steps(name)} rows, found {len(value)}")
            for t, row in enumerate(value):
                self.set(name, t, row, batch_dims)
            return
        variable = self._variables.get(name)
        if variable is None:
            self._named.refuse_new(name)
        else:
            n_steps = variable.n_steps if isinstance(variable, SharedVariable) else len(value)
            error = variable.mismatch(value, (n_steps, *variable.shape))
            if error is not None:
                raise WorkspaceError(f"'{name}': {error}")
            if isinstance(variable, SharedVariable):
                variable.tensor.detach().copy_(value.detach())
                return
        self._named.put(name, WholeVariable(value))

    def get_full(self, name: str, batch_dims: BatchDims | None = None) -> Tensor:
        """All rows of a variable, ``[T, B, …]``: a view, unless rows were recorded for autograd step by step.

        A view is to be cloned before it is changed in place: the next full read or cut in time refuses changed rows.

        Raises:
            WorkspaceError: an unknown variable, rows that were never written or were changed in place.
        """
        variable = self._variables.get(name)
        if variable is None:
            raise self._named.unknown(name)
        try:
            full = variable.full()
        except WorkspaceError as error:
            raise WorkspaceError(f"'{name}': {error}") from None
        return full if batch_dims is None else full[:, batch_slice(batch_dims, full.shape[1:], name)]

    def get_time_truncated(
        self, name: str, from_time: int, to_time: int, batch_dims: BatchDims | None = None
    ) -> Tensor:
        """Rows ``from_time`` … ``to_time - 1`` of a variable, ``[to_time - from_time, B, …]``.

        Raises:
            WorkspaceError: an unknown variable, or a window that is empty or not wholly recorded.
        """
        variable = self._named.find(name)
        check_window(from_time, to_time, variable.n_steps, name)
        try:
            rows = variable.rows(from_time, to_time)
        except WorkspaceError as error:
            raise WorkspaceError(f"'{name}': {error}") from None
        return rows if batch_dims is None else rows[:, batch_slice(batch_dims, rows.shape[1:], name)]

    @overload
    def __getitem__(self, key: str) -> Tensor: ...
    @overload
    def __getitem__(self, key: tuple[str, ...] | list[str]) -> tuple[Tensor, ...]: ...
    def __getitem__(self, key: str | tuple[str, ...] | list[str]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(key, str) or not isinstance(key, tuple | list):
            return self.get_full(key)
        return tuple(self.get_full(name) for name in key)

    def reserve(self, n_steps: int) -> None:
        """Announces that ``n_steps`` rows will be written, so that memory is taken once."""
        check_count("n_steps", n_steps, 0)
        self._named.reserved = max(self._named.reserved, int(n_steps))

    def extend(self, name: str, rows: Tensor) -> None:
        """Writes ``rows``, ``[n, B, …]``, after the last row of a variable, which is created if there is none.

        Nothing is recorded for autograd.

        Raises:
            WorkspaceError: rows of another shape, dtype or device than the variable's.
        """
        check_rows(name, rows, batch_is_optional=self._named.batch_is_optional)
        try:
            self._named.stepped(name, rows.shape[1:], rows.dtype, rows.device).extend(rows)
        except WorkspaceError as error:
            raise WorkspaceError(f"'{name}': {error}") from None

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
        return self._named.find(name).n_steps

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

    # Rows as arrays

    def row_writer(self, variables: RowFacts) -> RowWriter:
        """A writer of whole rows of several variables as arrays, without gradients, for the CPU.

        Args:
            variables: name → (shape of a row ``[B, …]``, numpy dtype).
        """
        writer = self._last_writer
        if writer is not None and writer.variables is variables:
            return writer
        names = tuple(variables)
        writer = self._row_writers.get(names)
        if writer is None or writer.variables != variables:
            writer = self._row_writers[names] = RowWriter(self._named, variables)
        self._last_writer = writer
        return writer

    def row_reader(self, names: tuple[str, ...]) -> RowReader:
        """A reader of whole rows of several variables as arrays, without gradients, for the CPU."""
        reader = self._row_readers.get(names)
        if reader is None:
            reader = self._row_readers[names] = RowReader(self._named, names)
        return reader

    # Cutting and forgetting

    def truncate(self, n_steps: int, var_names: Iterable[str] | None = None) -> None:
        """Drops the rows from ``n_steps`` on of the variables, by default of all.

        Raises:
            WorkspaceError: an unknown variable, or one of a shared workspace.
        """
        check_count("n_steps", n_steps, 0)
        for name in list(self._variables if var_names is None else var_names):
            try:
                self._named.find(name).keep_first(int(n_steps))
            except WorkspaceError as error:
                raise WorkspaceError(f"'{name}': {error}") from None

    def copy_n_last_steps(self, n: int, var_names: Iterable[str] | None = None) -> None:
        """Leaves exactly the last ``n`` rows of the variables, at times 0 … n-1: the start of the next chunk.

        Args:
            n: number of rows to keep.
            var_names: the variables concerned, by default all; the others are left alone.

        Raises:
            WorkspaceError: an unknown variable, variables of different time sizes, or fewer than ``n`` rows.
        """
        selected = {name: self._named.find(name) for name in (self._variables if var_names is None else var_names)}
        sizes = {name: variable.n_steps for name, variable in selected.items()}
        if len(set(sizes.values())) > 1:
            raise WorkspaceError(f"variables of different time sizes cannot be cut together: {sizes}")
        check_count("n", n, 0, max(sizes.values(), default=None))
        self._check_unchanged(selected)
        for name, variable in selected.items():
            try:
                variable.keep_last(int(n))
            except WorkspaceError as error:
                raise WorkspaceError(f"'{name}': {error}") from None

    def zero_grad(self) -> None:
        """Cuts every variable from its autograd graph; values stay."""
        self._check_unchanged(self._variables)
        for variable in self._variables.values():
            variable.detach()

    def clear(self, name: str | None = None) -> None:
        """Forgets a variable, or all of them."""
        for known in list(self._variables) if name is None else [name]:
            self.remove_variable(known)

    def remove_variable(self, name: str) -> None:
        """Forgets a variable.

        Raises:
            WorkspaceError: an unknown variable, or one of a shared workspace.
        """
        self._named.remove(name)

    def contiguous(self) -> Self:
        """The same values, each variable as one whole tensor."""
        return self._derive(lambda full: full, keeps_time=True)

    def to(self, device: torch.device | str) -> Self:
        """The same values on another device."""
        return self._derive(lambda full: full.to(device), keeps_time=True)

    def subtime(self, from_time: int, to_time: int) -> Self:
        """The rows ``from_time`` … ``to_time - 1`` of every variable.

        Raises:
            WorkspaceError: variables of different time sizes, or a window that is empty or not wholly recorded.
        """
        check_window(from_time, to_time, self.time_size())
        return self._of(
            self._each(
                lambda variable: (
                    WholeVariable(variable.rows(from_time, to_time))
                    if isinstance(variable, LateVariable)
                    else variable.mapped(lambda full: full[from_time:to_time])
                )
            )
        )

    def select_batch(self, batch_indexes: Tensor) -> Self:
        """The batch elements ``batch_indexes``, int64 ``[N]``, of every variable, in that order.

        Raises:
            WorkspaceError: indexes of another kind or out of range, or variables of different batch sizes.
        """
        check_indexes("batch_indexes", batch_indexes, self.batch_size())
        return self._derive(lambda full: full.index_select(1, batch_indexes.to(full.device)), keeps_time=True)

    # Internal

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
            if batch_dims is not None:
                raise WorkspaceError("part of a row of a variable that nobody has written; the first write is a row")
            stepped = self._named.stepped(name, value.shape, value.dtype, value.device, int(t))
        else:
            stepped = self._named.stepped(name, variable.shape, variable.dtype, variable.device)
        if batch_dims is None:
            stepped.write(t, value)
        else:
            stepped.write_part(t, *batch_dims, value)

    def _common(self, what: str, size_of: Callable[[Variable], int | None]) -> int:
        if not self._variables:
            raise WorkspaceError(f"an empty workspace has no {what}")
        sizes = {name: size_of(variable) for name, variable in self._variables.items()}
        first = next(iter(sizes.values()))
        if first is None or len(set(sizes.values())) > 1:
            raise WorkspaceError(f"there is no common {what}: {', '.join(f'{n}: {s}' for n, s in sizes.items())}")
        return first

    def _derive(self, change: Callable[[Tensor], Tensor], *, keeps_time: bool = False) -> Self:
        """A workspace of what ``change`` makes of all rows ``[T, B, …]`` of each variable.

        Args:
            change: must not write into what it is given.
            keeps_time: whether its result has the same rows in time, so that rows may be unwritten.
        """
        return self._of(self._each(lambda variable: variable.mapped(change, keeps_time=keeps_time)))

    def _each(self, change: Callable[[Variable], Variable]) -> dict[str, Variable]:
        """What ``change`` makes of each variable."""
        found = {}
        for name, variable in self._variables.items():
            try:
                found[name] = change(variable)
            except WorkspaceError as error:
                raise WorkspaceError(f"'{name}': {error}") from None
        return found

    def _check_unchanged(self, variables: Mapping[str, Variable]) -> None:
        for name, variable in variables.items():
            try:
                variable.check_unchanged()
            except WorkspaceError as error:
                raise WorkspaceError(f"'{name}': {error}") from None

    def _take_over(self, other: Recording, variables: Mapping[str, Variable]) -> None:
        """Takes the given variables, and what the workspace ``other`` allows."""
        self._named.late_starts.update(other._named.late_starts)
        self._named.batch_is_optional = other._named.batch_is_optional
        self._variables.update(variables)

    def _of(self, variables: Mapping[str, Variable]) -> Self:
        """A workspace of the given variables that allows what this one does."""
        raise NotImplementedError
