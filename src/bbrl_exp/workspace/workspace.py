"""The blackboard: named variables, tensors ``[T, B, …]`` that agents read and write one time step after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, KeysView, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from bbrl_exp.errors import WorkspaceError, did_you_mean
from bbrl_exp.workspace.storage import SharedVariable, SteppedVariable, Variable, WholeVariable

BatchDims = tuple[int, int]
RowFacts = Mapping[str, tuple[Sequence[int], DTypeLike]]


class Workspace:
    """A mapping of variable names to tensors ``[T, B, …]``.

    A variable takes its row shape ``[B, …]``, dtype and device from its first write and keeps them; time starts at 0
    and has no gaps. What does not fit is refused with a :class:`WorkspaceError` that says what was expected: nothing
    is invented, broadcast, cast or moved.

    Aliasing: a write at one step copies the value, unless it carries a gradient; then the tensor itself is kept.
    ``set_full`` keeps the tensor it is given. Reads are views, to be cloned before they are changed in place; what was
    read keeps its values for ever, whatever is written later. (A shared workspace is the exception: its reads show what
    other processes write, unless gradients are enabled.)

    Args:
        workspace: a workspace to copy, tensors included.
    """

    def __init__(self, workspace: Workspace | None = None) -> None:
        self._variables: dict[str, Variable] = {}
        self._begin()
        if workspace is not None:
            for name, variable in workspace._variables.items():
                self._variables[name] = WholeVariable(variable.full().clone())

    def _begin(self) -> None:
        self._reserved = 0
        self._layout = 0
        self._row_writers: dict[tuple[str, ...], RowWriter] = {}
        self._last_writer: RowWriter | None = None
        self._row_readers: dict[tuple[str, ...], RowReader] = {}

    # One step

    def set(self, name: str, t: int, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Writes row ``t`` of a variable.

        Args:
            name: the variable; it is created by its first write, at t = 0.
            t: the time step, at most one after the last row.
            value: ``[B, …]``, of the variable's shape, dtype and device.
            batch_dims: (start, stop): only these batch elements of a row that exists already; ``value`` is then
                ``[stop - start, …]``.

        Raises:
            WorkspaceError: a gap in time, a negative t, or a value that does not fit.
        """
        variable = self._variables.get(name)
        try:
            if type(variable) is SteppedVariable and batch_dims is None:
                variable.write(t, value)
            else:
                self._set_slowly(variable, name, t, value, batch_dims)
        except WorkspaceError as error:
            raise WorkspaceError(f"'{name}' at t={t}: {error}") from None
        except TypeError:
            raise WorkspaceError(f"'{name}' at t={t!r}: a time step is an integer") from None

    def get(self, name: str, t: int, batch_dims: BatchDims | None = None) -> Tensor:
        """Row ``t`` of a variable, ``[B, …]``; with ``batch_dims`` = (start, stop) only these batch elements of it.

        Raises:
            WorkspaceError: an unknown variable, or a row that was never written.
        """
        try:
            row = self._variables[name].read(t)
        except KeyError:
            raise self._unknown(name, t) from None
        except WorkspaceError as error:
            raise WorkspaceError(f"'{name}' at t={t}: {error}") from None
        except TypeError:
            raise WorkspaceError(f"'{name}' at t={t!r}: a time step is an integer") from None
        return row if batch_dims is None else row[_batch_slice(batch_dims, row.shape[0], name)]

    # All steps

    def set_full(self, name: str, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Replaces all rows of a variable by ``value``, ``[T, B, …]``, which is kept, not copied.

        With ``batch_dims`` = (start, stop), ``value`` is ``[T, stop - start, …]`` and only these batch elements of the
        recorded rows are overwritten.

        Raises:
            WorkspaceError: not a tensor of at least one dimension, or rows of another shape, dtype or device.
        """
        variable = self._variables.get(name)
        if not isinstance(value, Tensor) or value.dim() == 0:
            found = type(value).__name__ if not isinstance(value, Tensor) else "a tensor without dimensions"
            raise WorkspaceError(f"'{name}': expected a torch.Tensor [T, B, …], found {found}")
        if batch_dims is not None:
            if len(value) != self.n_steps(name):
                raise WorkspaceError(f"'{name}': expected {self.n_steps(name)} rows, found {len(value)}")
            for t, row in enumerate(value):
                self.set(name, t, row, batch_dims)
            return
        if variable is None:
            self._refuse_new_variable(name)
        else:
            n_steps = variable.n_steps if isinstance(variable, SharedVariable) else len(value)
            error = variable.mismatch(value, (n_steps, *variable.shape))
            if error is not None:
                raise WorkspaceError(f"'{name}': {error}")
            if isinstance(variable, SharedVariable):
                variable.tensor.detach().copy_(value.detach())
                return
        self._put(name, WholeVariable(value))

    def get_full(self, name: str, batch_dims: BatchDims | None = None) -> Tensor:
        """All rows of a variable, ``[T, B, …]``: a view, unless rows were recorded for autograd step by step.

        Raises:
            WorkspaceError: an unknown variable.
        """
        variable = self._variables.get(name)
        if variable is None:
            raise self._unknown(name)
        full = variable.full()
        return full if batch_dims is None else full[:, _batch_slice(batch_dims, full.shape[1], name)]

    def get_time_truncated(
        self, name: str, from_time: int, to_time: int, batch_dims: BatchDims | None = None
    ) -> Tensor:
        """Rows ``from_time`` … ``to_time - 1`` of a variable, ``[to_time - from_time, B, …]``.

        Raises:
            WorkspaceError: an unknown variable, or a window that is empty or not wholly recorded.
        """
        full = self.get_full(name, batch_dims)
        self._check_window(from_time, to_time, len(full), name)
        return full[from_time:to_time]

    @overload
    def __getitem__(self, key: str) -> Tensor: ...
    @overload
    def __getitem__(self, key: tuple[str, ...] | list[str]) -> tuple[Tensor, ...]: ...
    def __getitem__(self, key: str | tuple[str, ...] | list[str]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(key, str):
            return self.get_full(key)
        return tuple(self.get_full(name) for name in key)

    # What is there

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

    # Recording

    def reserve(self, n_steps: int) -> None:
        """Announces that ``n_steps`` rows will be written, so that memory is taken once."""
        self._reserved = max(self._reserved, n_steps)

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
            writer = self._row_writers[names] = RowWriter(self, variables)
        self._last_writer = writer
        return writer

    def row_reader(self, names: tuple[str, ...]) -> RowReader:
        """A reader of whole rows of several variables as arrays, without gradients, for the CPU."""
        reader = self._row_readers.get(names)
        if reader is None:
            reader = self._row_readers[names] = RowReader(self, names)
        return reader

    def extend(self, name: str, rows: Tensor) -> None:
        """Writes ``rows``, ``[n, B, …]``, after the last row of a variable, which is created where there is none.

        Nothing is recorded for autograd.

        Raises:
            WorkspaceError: rows of another shape, dtype or device than the variable's.
        """
        try:
            self._stepped(name, rows.shape[1:], rows.dtype, rows.device).extend(rows)
        except WorkspaceError as error:
            raise WorkspaceError(f"'{name}': {error}") from None

    def truncate(self, n_steps: int, var_names: Iterable[str] | None = None) -> None:
        """Drops the rows from ``n_steps`` on of the variables, by default of all.

        Raises:
            WorkspaceError: an unknown variable, or one of a shared workspace.
        """
        for name in list(self._variables if var_names is None else var_names):
            self._variable(name).keep_first(n_steps)

    def copy_n_last_steps(self, n: int, var_names: Iterable[str] | None = None) -> None:
        """Leaves exactly the last ``n`` rows of the variables, at times 0 … n-1: the start of the next chunk.

        Args:
            n: number of rows to keep.
            var_names: the variables concerned, by default all; the others are left alone.

        Raises:
            WorkspaceError: an unknown variable, variables of different time sizes, or fewer than ``n`` rows.
        """
        names = list(self._variables if var_names is None else var_names)
        selected = [self._variable(name) for name in names]
        sizes = {name: variable.n_steps for name, variable in zip(names, selected, strict=True)}
        if len(set(sizes.values())) > 1:
            raise WorkspaceError(f"variables of different time sizes cannot be cut together: {sizes}")
        for name, variable in zip(names, selected, strict=True):
            try:
                variable.keep_last(n)
            except WorkspaceError as error:
                raise WorkspaceError(f"'{name}': {error}") from None

    def copy_time(self, from_time: int, to_time: int, n_steps: int, var_names: Iterable[str] | None = None) -> None:
        """Copies rows ``from_time`` … ``from_time + n_steps - 1`` over those from ``to_time`` on.

        Raises:
            WorkspaceError: rows that were never written, or a gap that the copy would leave.
        """
        for name in list(self._variables if var_names is None else var_names):
            window = self.get_time_truncated(name, from_time, from_time + n_steps).clone()
            for offset, row in enumerate(window):
                self.set(name, to_time + offset, row)

    def zero_grad(self) -> None:
        """Cuts every variable from its autograd graph; values stay."""
        for variable in self._variables.values():
            variable.detach()

    def clear(self, name: str | None = None) -> None:
        """Forgets a variable, or all of them."""
        if name is not None:
            self.remove_variable(name)
            return
        for known in list(self._variables):
            self.remove_variable(known)

    def remove_variable(self, name: str) -> None:
        """Forgets a variable.

        Raises:
            WorkspaceError: an unknown variable, or one of a shared workspace.
        """
        if isinstance(self._variable(name), SharedVariable):
            raise WorkspaceError(f"'{name}': the variables of a shared workspace cannot be removed")
        del self._variables[name]
        self._layout += 1

    # Derived workspaces

    def clone(self) -> Workspace:
        """A copy that shares no memory with this one; gradients flow through the copy."""
        return Workspace(self)

    def contiguous(self) -> Workspace:
        """The same values, each variable as one whole tensor."""
        return self._derive(lambda full: full)

    def to(self, device: torch.device | str) -> Workspace:
        """The same values on another device."""
        return self._derive(lambda full: full.to(device))

    def share_memory(self) -> Workspace:
        """A copy in shared memory, of fixed size, for other processes; rows can be overwritten but not added."""
        shared = Workspace()
        for name, variable in self._variables.items():
            shared._variables[name] = SharedVariable(variable.full().detach())
        return shared

    def subtime(self, from_time: int, to_time: int) -> Workspace:
        """The rows ``from_time`` … ``to_time - 1`` of every variable.

        Raises:
            WorkspaceError: variables of different time sizes, or a window that is empty or not wholly recorded.
        """
        self._check_window(from_time, to_time, self.time_size())
        return self._derive(lambda full: full[from_time:to_time])

    def get_time_truncated_workspace(self, from_time: int, to_time: int) -> Workspace:
        """The same as :meth:`subtime`, under the name that BBRL programs know."""
        return self.subtime(from_time, to_time)

    def select_batch(self, batch_indexes: Tensor) -> Workspace:
        """The batch elements ``batch_indexes``, int64 ``[N]``, of every variable, in that order.

        Raises:
            WorkspaceError: indexes of another kind or out of range, or variables of different batch sizes.
        """
        self._check_indexes("batch_indexes", batch_indexes, self.batch_size())
        return self._derive(lambda full: full.index_select(1, batch_indexes.to(full.device)))

    def select_batch_n(self, n: int, generator: torch.Generator | None = None) -> Workspace:
        """``n`` batch elements drawn uniformly with replacement, by ``generator`` or by torch's global one."""
        return self.select_batch(torch.randint(self.batch_size(), (n,), generator=generator))

    def select_subtime(self, t: Tensor, window_size: int) -> Workspace:
        """A window of ``window_size`` rows for each batch element, beginning at its own time.

        Args:
            t: first row of each element's window, int64 ``[B]``.
            window_size: number of rows.

        Raises:
            WorkspaceError: ``t`` of another kind, or a window that is not wholly recorded.
        """
        time_size, batch_size = self.time_size(), self.batch_size()
        if not 1 <= window_size <= time_size:
            raise WorkspaceError(f"window_size={window_size}: between 1 and the {time_size} recorded rows")
        self._check_indexes("t", t, time_size - window_size + 1)
        if len(t) != batch_size:
            raise WorkspaceError(f"t: expected one time for each of {batch_size} batch elements, found {len(t)}")
        rows = t.unsqueeze(0) + torch.arange(window_size, device=t.device).unsqueeze(1)
        columns = torch.arange(batch_size, device=t.device).expand_as(rows)
        return self._derive(lambda full: full[rows.to(full.device), columns.to(full.device)])

    def sample_subworkspace(
        self, n_times: int, n_batch_elements: int, n_timesteps: int, generator: torch.Generator | None = None
    ) -> Workspace:
        """Draws ``n_times`` windows of ``n_timesteps`` rows, each of ``n_batch_elements`` distinct batch elements.

        Every window that lies wholly within the recording is equally likely. The result has T = ``n_timesteps``
        and B = ``n_times * n_batch_elements``.

        Raises:
            WorkspaceError: more rows or batch elements than there are, or less than one of anything.
        """
        time_size, batch_size = self.time_size(), self.batch_size()
        for name, value, largest in (
            ("n_times", n_times, None),
            ("n_batch_elements", n_batch_elements, batch_size),
            ("n_timesteps", n_timesteps, time_size),
        ):
            if value < 1 or (largest is not None and value > largest):
                raise WorkspaceError(f"{name}={value}: at least 1" + (f" and at most {largest}" if largest else ""))
        starts = torch.randint(time_size - n_timesteps + 1, (n_times,), generator=generator)
        elements = torch.stack(
            [torch.randperm(batch_size, generator=generator)[:n_batch_elements] for _ in range(n_times)]
        )
        return self.select_batch(elements.flatten()).select_subtime(
            starts.repeat_interleave(n_batch_elements), n_timesteps
        )

    @staticmethod
    def cat_batch(workspaces: Sequence[Workspace]) -> Workspace:
        """Several workspaces with the same variables and time size, side by side in the batch.

        Raises:
            WorkspaceError: no workspace, or variables or time sizes that differ.
        """
        if not workspaces:
            raise WorkspaceError("cat_batch needs at least one workspace")
        names = list(workspaces[0].keys())
        for other in workspaces[1:]:
            if set(other.keys()) != set(names):
                different = sorted(set(names) ^ set(other.keys()))
                raise WorkspaceError(f"cat_batch: variables that not every workspace has: {', '.join(different)}")
        result = Workspace()
        for name in names:
            parts = [workspace[name] for workspace in workspaces]
            facts = {(len(part), part.shape[2:], part.dtype, part.device) for part in parts}
            if len(facts) > 1:
                found = ", ".join(f"{list(part.shape)} {part.dtype}" for part in parts)
                raise WorkspaceError(f"cat_batch: '{name}' differs in time size, shape, dtype or device: {found}")
            result._variables[name] = WholeVariable(torch.cat(parts, dim=1))
        return result

    # Transitions

    def transition_mask(self, filter_key: str = "env/done") -> Tensor:
        """Which pairs of rows (t, t+1) are transitions of an environment: bool ``[T-1, B]``, false where ``done[t]``.

        After ``done[t]`` an auto-reset environment shows the first observation of its next episode, and a frozen one
        its last row again; neither pair is a transition.

        Raises:
            WorkspaceError: an unknown ``filter_key``, or one that is not bool ``[T, B]`` with T of at least 2.
        """
        done = self.get_full(filter_key)
        if done.dtype != torch.bool or done.dim() != 2 or len(done) < 2:
            raise WorkspaceError(
                f"'{filter_key}': expected bool [T, B] of at least 2 rows, found {list(done.shape)} {done.dtype}"
            )
        return ~done[:-1]

    def get_transitions(self, no_final_state: bool = False, filter_key: str = "env/done") -> Workspace:
        """All N transitions as a workspace ``[2, N, …]``: row 0 is the time of the action, row 1 the time after it.

        Args:
            no_final_state: the recording holds no final observations, so that every pair of rows is a transition.
            filter_key: the variable that is true where the next row belongs to no transition.

        Transitions stand in the order of time, then of the batch.

        Raises:
            WorkspaceError: as :meth:`transition_mask`, or variables of different time or batch sizes.
        """
        shape = (self.time_size() - 1, self.batch_size())
        mask = torch.ones(shape, dtype=torch.bool) if no_final_state else self.transition_mask(filter_key)
        indexes = mask.flatten().nonzero().squeeze(1)
        first, second = indexes, indexes + shape[1]

        def pairs(full: Tensor) -> Tensor:
            flat = full.reshape(-1, *full.shape[2:])
            here = torch.stack((first, second)).to(full.device)
            return flat.index_select(0, here.flatten()).reshape(2, -1, *full.shape[2:])

        return self._derive(pairs)

    # Pickling: whole tensors, so that a copy in another process needs nothing of this one's memory layout

    def __getstate__(self) -> dict[str, tuple[Tensor, bool]]:
        return {
            name: (variable.tensor, True)
            if isinstance(variable, SharedVariable)
            else (variable.full().detach().clone(), False)
            for name, variable in self._variables.items()
        }

    def __setstate__(self, state: dict[str, tuple[Tensor, bool]]) -> None:
        self._variables = {
            name: SharedVariable(tensor) if is_shared else WholeVariable(tensor)
            for name, (tensor, is_shared) in state.items()
        }
        self._begin()

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspace:
        copy = self.clone()
        memo[id(self)] = copy
        return copy

    # Inside

    def _stepped(self, name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> SteppedVariable:
        """The variable in the form that is written step by step, created or converted where need be."""
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

    def _set_slowly(
        self, variable: Variable | None, name: str, t: int, value: Tensor, batch_dims: BatchDims | None
    ) -> None:
        if variable is not None and batch_dims is not None:
            _batch_slice(batch_dims, variable.shape[0], name)
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

    def _put(self, name: str, variable: Variable) -> None:
        self._variables[name] = variable
        self._layout += 1

    def _variable(self, name: str) -> Variable:
        variable = self._variables.get(name)
        if variable is None:
            raise self._unknown(name)
        return variable

    def _derive(self, change: Callable[[Tensor], Tensor]) -> Workspace:
        derived = Workspace()
        for name, variable in self._variables.items():
            derived._variables[name] = WholeVariable(change(_values(variable)))
        return derived

    def _common(self, what: str, size_of: Callable[[Variable], int | None]) -> int:
        if not self._variables:
            raise WorkspaceError(f"an empty workspace has no {what}")
        sizes = {name: size_of(variable) for name, variable in self._variables.items()}
        first = next(iter(sizes.values()))
        if first is None or len(set(sizes.values())) > 1:
            raise WorkspaceError(f"there is no common {what}: {', '.join(f'{n}: {s}' for n, s in sizes.items())}")
        return first

    def _unknown(self, name: str, t: int | None = None) -> WorkspaceError:
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

    @staticmethod
    def _check_window(from_time: int, to_time: int, n_steps: int, name: str | None = None) -> None:
        if not 0 <= from_time < to_time <= n_steps:
            where = "" if name is None else f"'{name}': "
            raise WorkspaceError(f"{where}no window [{from_time}:{to_time}] in the {n_steps} recorded rows")

    @staticmethod
    def _check_indexes(name: str, indexes: Tensor, size: int) -> None:
        if not isinstance(indexes, Tensor) or indexes.dtype != torch.int64 or indexes.dim() != 1:
            raise WorkspaceError(f"{name}: expected a one-dimensional int64 tensor, found {indexes!r}")
        if len(indexes) and not 0 <= int(indexes.min()) <= int(indexes.max()) < size:
            raise WorkspaceError(f"{name}: {int(indexes.min())} … {int(indexes.max())} do not lie in 0 … {size - 1}")


def _batch_slice(batch_dims: BatchDims, batch_size: int, name: str) -> slice:
    start, stop = batch_dims
    if not 0 <= start < stop <= batch_size:
        raise WorkspaceError(f"'{name}': batch_dims={batch_dims}: 0 <= start < stop <= {batch_size}")
    return slice(start, stop)


def _values(variable: Variable) -> Tensor:
    full = variable.full()
    return full.clone() if isinstance(variable, SharedVariable) else full


class RowWriter:
    """Gives agents the memory of whole rows, to be filled in place.

    ``rows(t)`` gives one array a variable, of which the caller fills every element; ``commit(t)`` then records them. An
    agent that raises in between leaves nothing recorded.

    Attributes:
        variables: name → (shape of a row ``[B, …]``, numpy dtype).
    """

    def __init__(self, workspace: Workspace, variables: RowFacts) -> None:
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
        if self._layout == self._workspace._layout and 0 <= t < len(self._by_time):
            # The usual case: every variable grows by one row, in the memory that it had before.
            for variable, memory in self._bound:
                if variable.n_steps != t or variable.numpy_rows is not memory:
                    break
            else:
                return self._by_time[t]
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
                variable.n_steps = t + 1
            else:
                variable.commit(t)

    def _prepare(self, t: int) -> Sequence[NDArray[Any]]:
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

    def __init__(self, workspace: Workspace, names: tuple[str, ...]) -> None:
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
            if type(variable) is not SteppedVariable or not 0 <= t < variable.n_steps:
                rows.append(self._workspace.get(name, t).detach().numpy())
            elif variable.read_arrays is not None:
                rows.append(variable.read_arrays[t])
            else:
                rows.append(variable.numpy_read(t))
        return rows
