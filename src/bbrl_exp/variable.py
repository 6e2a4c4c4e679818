"""How one variable of a workspace is stored: row by row as it is recorded, as one whole tensor, or in shared memory.

The difficulty is autograd. Views of one tensor share a version counter, so that writing row t + 1 in place would
break the backward pass of whoever read row t; and a write that autograd does not see would silently change what it
saved. Hence, in :class:`SteppedVariable`:

* rows are *read* through views of the buffer and *written* through an alias with a version counter of its own, so
  that an append disturbs nobody;
* rows that may have been saved for a backward pass (anything read while gradients were enabled) are never written
  again: the next overwrite moves the variable to fresh memory;
* any other overwrite raises the buffer's version counter, so that a backward pass through a view kept from before is
  an error of PyTorch's and not a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.errors import WorkspaceError

_is_grad_enabled = torch.is_grad_enabled
_SMALLEST_CAPACITY = 16


def _row_error(t: int, n_steps: int) -> WorkspaceError:
    if t < 0:
        return WorkspaceError(f"t={t} is negative; time starts at 0")
    written = f"rows 0 to {n_steps - 1} are" if n_steps else "no row is"
    return WorkspaceError(f"row t={t} was never written; {written} there")


def _window_error(start: int, stop: int, n_steps: int) -> WorkspaceError:
    return WorkspaceError(f"the window from t={start} to t={stop} does not lie within the {n_steps} recorded rows")


def _describe(value: Tensor) -> str:
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"


class Variable:
    """What the three kinds of storage have in common: the facts of a row, checked at every write.

    Attributes:
        shape: shape of one row, ``[B, …]``.
        dtype: dtype of every row.
        device: device of every row.
    """

    __slots__ = ("device", "dtype", "shape")

    def __init__(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = device

    @property
    def n_steps(self) -> int:
        """Number of recorded rows."""
        raise NotImplementedError

    def read(self, t: int) -> Tensor:
        """Row ``t``, ``[B, …]``: a view where the row was written in place."""
        raise NotImplementedError

    def full(self) -> Tensor:
        """All rows, ``[T, B, …]``: a view unless rows were recorded for autograd one by one."""
        raise NotImplementedError

    def snapshot(self) -> Tensor:
        """All rows, ``[T, B, …]``, in memory that later writes to this variable leave alone."""
        raise NotImplementedError

    def keep_first(self, n: int) -> None:
        """Drops every row from ``n`` on."""
        raise NotImplementedError

    def keep_last(self, n: int) -> None:
        """Leaves the last ``n`` rows, at times 0 … n-1."""
        raise NotImplementedError

    def detach(self) -> None:
        """Cuts every row from its autograd graph."""
        raise NotImplementedError

    def mismatch(self, value: object, shape: Sequence[int] | None = None) -> WorkspaceError | None:
        """The error of writing ``value`` as a row, or as something of the given ``shape``; None if it fits."""
        expected_shape = self.shape if shape is None else torch.Size(shape)
        if not isinstance(value, Tensor):
            return WorkspaceError(f"expected a torch.Tensor, found {type(value).__name__}")
        if value.shape == expected_shape and value.dtype == self.dtype and value.device == self.device:
            return None
        dtype = str(self.dtype).removeprefix("torch.")
        return WorkspaceError(f"expected {list(expected_shape)} {dtype} on {self.device}, found {_describe(value)}")


class SteppedVariable(Variable):
    """Rows written one after the other into preallocated memory that grows by doubling.

    A row that carries a gradient is kept as it is, apart from the buffer, and so is a last row that is overwritten
    after it was read for autograd; reading all rows then stacks them.

    Attributes:
        rows: the recorded rows, what a read at one step gives.
    """

    __slots__ = ("_buffer", "_exposed", "_n_apart", "_numpy_rows", "_views", "_write_views", "rows")

    def __init__(self, shape: torch.Size, dtype: torch.dtype, device: torch.device, capacity: int = 0) -> None:
        super().__init__(shape, dtype, device)
        self.rows: list[Tensor] = []
        self._n_apart = 0
        self._numpy_rows: list[NDArray[Any]] | None = None
        self._allocate(max(capacity, _SMALLEST_CAPACITY))

    @classmethod
    def from_tensor(cls, tensor: Tensor, capacity: int) -> SteppedVariable:
        """The rows of ``tensor``, ``[T, B, …]``, ready for writing: copied, or kept where they carry gradients."""
        n_steps = len(tensor)
        variable = cls(tensor.shape[1:], tensor.dtype, tensor.device, max(capacity, n_steps))
        if tensor.requires_grad:
            variable.rows = list(tensor.unbind(0))
            variable._n_apart = n_steps
        else:
            variable._write(slice(0, n_steps), tensor)
            variable.rows = list(variable._views[:n_steps])
        return variable

    @property
    def n_steps(self) -> int:
        return len(self.rows)

    @property
    def capacity(self) -> int:
        """Number of rows for which there is memory."""
        return len(self._views)

    def read(self, t: int) -> Tensor:
        if t >= 0:
            try:
                row = self.rows[t]
            except IndexError:
                raise _row_error(t, len(self.rows)) from None
            if _is_grad_enabled():
                self._exposed = True
            return row
        raise _row_error(t, len(self.rows))

    def full(self) -> Tensor:
        if self._n_apart:
            return torch.stack(self.rows)
        if _is_grad_enabled():
            self._exposed = True
        return self._buffer[: len(self.rows)]

    def snapshot(self) -> Tensor:
        self._exposed = True
        return self.full()

    def write(self, t: int, value: Tensor) -> None:
        """Writes row ``t``: a copy, or the tensor itself where it carries a gradient.

        Raises:
            WorkspaceError: a gap in time, or a value of another shape, dtype or device than the first row's.
        """
        rows = self.rows
        if not (
            isinstance(value, Tensor)
            and value.shape == self.shape
            and value.dtype is self.dtype
            and value.device == self.device
        ):
            error = self.mismatch(value)
            assert error is not None
            raise error
        if t == len(rows):
            if t == len(self._views):
                self.grow(t + 1)
            if value.requires_grad and _is_grad_enabled():
                rows.append(value)
                self._n_apart += 1
            else:
                self._write_views[t].copy_(value)
                rows.append(self._views[t])
        else:
            self._overwrite(t, value)

    def _overwrite(self, t: int, value: Tensor) -> None:
        rows = self.rows
        stands_apart = value.requires_grad and _is_grad_enabled()
        if 0 <= t == len(rows) - 1 and self._exposed and not stands_apart:
            with torch.inference_mode(False):
                value, stands_apart = value.detach().clone(), True
        else:
            self.prepare_overwrite(t)
        if stands_apart:
            row = value
            self._n_apart += 1
        else:
            self._write_views[t].copy_(value)
            row = self._views[t]
        if rows[t] is not self._views[t]:
            self._n_apart -= 1
        rows[t] = row

    def write_part(self, t: int, start: int, stop: int, value: Tensor) -> None:
        """Writes the batch elements ``start`` … ``stop - 1`` of the existing row ``t``."""
        error = self.mismatch(value, (stop - start, *self.shape[1:]))
        if error is not None:
            raise error
        if not 0 <= t < len(self.rows):
            raise _row_error(t, len(self.rows))
        if self.rows[t] is not self._views[t] or (value.requires_grad and _is_grad_enabled()):
            raise WorkspaceError(f"part of row t={t} cannot be written where gradients are recorded")
        self.prepare_overwrite(t)
        self._write_views[t][start:stop].copy_(value)

    def numpy_row(self, t: int) -> NDArray[Any]:
        """The memory of row ``t`` as an array, to be filled whole and then committed (CPU only).

        Raises:
            WorkspaceError: a gap in time.
        """
        if t != len(self.rows):
            self.prepare_overwrite(t)
            if t == len(self.rows) - 1:
                self._drop_last_row()
        elif t == len(self._views):
            self.grow(t + 1)
        arrays = self._numpy_rows
        if arrays is None:
            arrays = self._numpy_rows = list(self._write_views_whole().numpy())
        return arrays[t]

    def commit(self, t: int) -> None:
        """Records the row ``t`` that was filled through :meth:`numpy_row`."""
        if t == len(self.rows):
            self.rows.append(self._views[t])
        else:
            if self.rows[t] is not self._views[t]:
                self._n_apart -= 1
            self.rows[t] = self._views[t]

    def keep_first(self, n: int) -> None:
        if n < len(self.rows):
            del self.rows[n:]
            self._recount()
            self._make_writable()

    def keep_last(self, n: int) -> None:
        n_steps = len(self.rows)
        if not 0 <= n <= n_steps:
            raise _window_error(n_steps - n, n_steps, n_steps)
        if n == n_steps:
            return
        kept = self.rows[n_steps - n :]
        recorded = [row is not view for row, view in zip(kept, self._views[n_steps - n :], strict=False)]
        values = self._buffer[n_steps - n : n_steps].clone() if n else None
        self.rows = []
        self._make_writable()
        if values is not None:
            self._write(slice(0, n), values)
        self.rows = [
            row if has_graph else view for row, has_graph, view in zip(kept, recorded, self._views, strict=False)
        ]
        self._recount()

    def detach(self) -> None:
        if self._n_apart:
            for t, row in enumerate(self.rows):
                if row is not self._views[t]:
                    self._write(t, row.detach())
                    self.rows[t] = self._views[t]
            self._n_apart = 0

    def grow(self, n_steps: int) -> None:
        """Makes room for at least ``n_steps`` rows; doubles at least."""
        if n_steps > len(self._views):
            self._move(max(n_steps, 2 * len(self._views)))

    def prepare_overwrite(self, t: int) -> None:
        """Makes the existing row ``t`` writable; what was handed out before keeps its values or is known as stale.

        Raises:
            WorkspaceError: there is no such row.
        """
        if t < 0:
            raise _row_error(t, len(self.rows))
        if t >= len(self.rows):
            raise WorkspaceError(f"a write at t={t} would leave a gap: the next row is t={len(self.rows)}")
        self._make_writable()

    def _allocate(self, capacity: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._buffer = torch.empty((capacity, *self.shape), dtype=self.dtype, device=self.device)
            self._views = self._buffer.unbind(0)
            self._write_views = self._write_views_whole().unbind(0)
        self._numpy_rows = None
        self._exposed = False

    def _write_views_whole(self) -> Tensor:
        return self._buffer.data

    def _write(self, where: slice | int, value: Tensor) -> None:
        with torch.no_grad():
            self._write_views_whole()[where].copy_(value)

    def _move(self, capacity: int) -> None:
        """Moves the recorded rows to fresh memory; views handed out before keep the old."""
        old_buffer, old_views, n_steps = self._buffer, self._views, len(self.rows)
        self._allocate(capacity)
        if n_steps:
            self._write(slice(0, n_steps), old_buffer[:n_steps])
        for t, row in enumerate(self.rows):
            if row is old_views[t]:
                self.rows[t] = self._views[t]

    def _make_writable(self) -> None:
        if self._exposed:
            self._move(len(self._views))
        else:
            with torch.no_grad():
                self._buffer[:0].zero_()

    def _drop_last_row(self) -> None:
        row = self.rows.pop()
        if row is not self._views[len(self.rows)]:
            self._n_apart -= 1

    def _recount(self) -> None:
        if self._n_apart:
            views = self._views
            self._n_apart = sum(row is not views[t] for t, row in enumerate(self.rows))


class WholeVariable(Variable):
    """One tensor ``[T, B, …]``, kept as it was given."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor.shape[1:], tensor.dtype, tensor.device)
        if tensor.is_inference():
            with torch.inference_mode(False):
                tensor = tensor.clone()
        self.tensor = tensor

    @property
    def n_steps(self) -> int:
        return len(self.tensor)

    def read(self, t: int) -> Tensor:
        if not 0 <= t < len(self.tensor):
            raise _row_error(t, len(self.tensor))
        return self.tensor[t]

    def full(self) -> Tensor:
        return self.tensor

    def snapshot(self) -> Tensor:
        return self.tensor

    def keep_first(self, n: int) -> None:
        self.tensor = self.tensor[:n]

    def keep_last(self, n: int) -> None:
        n_steps = len(self.tensor)
        if not 0 <= n <= n_steps:
            raise _window_error(n_steps - n, n_steps, n_steps)
        self.tensor = self.tensor[n_steps - n :]

    def detach(self) -> None:
        self.tensor = self.tensor.detach()


class SharedVariable(Variable):
    """One tensor ``[T, B, …]`` in shared memory: its rows can be overwritten by every process, never added to.

    Nothing is recorded for autograd here: writes are detached, and what is read while gradients are enabled is a copy,
    because another process may write at any time.
    """

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor.shape[1:], tensor.dtype, tensor.device)
        if not tensor.is_shared():  # type: ignore[no-untyped-call]
            tensor = tensor.detach().clone().share_memory_()  # type: ignore[no-untyped-call]
        self.tensor = tensor

    @property
    def n_steps(self) -> int:
        return len(self.tensor)

    def read(self, t: int) -> Tensor:
        if not 0 <= t < len(self.tensor):
            raise _row_error(t, len(self.tensor))
        return self.tensor[t].clone() if _is_grad_enabled() else self.tensor[t]

    def full(self) -> Tensor:
        return self.tensor.clone() if _is_grad_enabled() else self.tensor

    def snapshot(self) -> Tensor:
        return self.tensor.clone()

    def write(self, t: int, value: Tensor, start: int = 0, stop: int | None = None) -> None:
        """Overwrites row ``t``, or the batch elements ``start`` … ``stop - 1`` of it."""
        if not 0 <= t < len(self.tensor):
            raise WorkspaceError(
                f"t={t} is not one of the {len(self.tensor)} rows of a shared workspace, which cannot grow"
            )
        part = self.tensor.detach()[t, start:stop] if self.shape else self.tensor.detach()[t]
        error = self.mismatch(value, part.shape)
        if error is not None:
            raise error
        part.copy_(value.detach())

    def keep_first(self, n: int) -> None:
        if n < len(self.tensor):
            raise WorkspaceError("the rows of a shared workspace cannot be dropped")

    def keep_last(self, n: int) -> None:
        if n != len(self.tensor):
            raise WorkspaceError("the rows of a shared workspace cannot be dropped")

    def detach(self) -> None:
        pass
