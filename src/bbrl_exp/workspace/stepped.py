"""A variable that is recorded row by row.

The difficulty is autograd, which saves what it reads for the backward pass. Views of one tensor share a version
counter, so that writing row t + 1 in place would break the backward pass of whoever read row t; and a write that
autograd does not see would silently change what it saved. Therefore, in :class:`SteppedVariable`:

* rows are *read* through views of the buffer and *written* through an alias with a version counter of its own, so that
  an append disturbs nobody;
* memory of which a tensor was handed out is never overwritten: an overwritten row is kept apart from the buffer, and a
  cut in time moves the variable to fresh memory. What was read never changes.

So the version counters of the buffer and of rows that were overwritten belong to their readers: they move only if one
of these writes in place, which is noticed at the next full read or cut. A row that carries a gradient is not ours: it
may be a view of a parameter, which an optimizer changes in place.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace.storage import CHANGED_IN_PLACE, Variable, row_error

_is_grad_enabled = torch.is_grad_enabled
_SMALLEST_CAPACITY = 16


class SteppedVariable(Variable):
    """Rows written one after the other into preallocated memory that grows by doubling.

    A row that carries a gradient is kept as it is, apart from the buffer, and so is a row that is overwritten after
    something was read; reading all rows then stacks them.

    Attributes:
        numpy_rows: the memory of the rows as arrays for writing, once they were asked for.
        read_arrays: the same for reading, while no row stands apart.
    """

    __slots__ = ("_apart", "_buffer", "_exposed", "_views", "_write_views", "capacity", "numpy_rows", "read_arrays")

    def __init__(self, shape: torch.Size, dtype: torch.dtype, device: torch.device, capacity: int = 0) -> None:
        super().__init__(shape, dtype, device)
        self._apart: dict[int, Tensor] = {}
        self.numpy_rows: list[NDArray[Any]] | None = None
        self.read_arrays: list[NDArray[Any]] | None = None
        self._views: tuple[Tensor, ...] = ()
        self._write_views: tuple[Tensor, ...] = ()
        self._allocate(max(capacity, _SMALLEST_CAPACITY))

    @classmethod
    def from_tensor(cls, tensor: Tensor, capacity: int) -> SteppedVariable:
        """The rows of ``tensor``, ``[T, B, …]``, ready for writing: copied, or kept where they carry gradients."""
        n_steps = len(tensor)
        variable = cls(tensor.shape[1:], tensor.dtype, tensor.device, max(capacity, n_steps))
        if tensor.requires_grad:
            variable._apart = dict(enumerate(tensor.unbind(0)))
        else:
            variable._fill(slice(0, n_steps), tensor)
        variable.n_steps = n_steps
        return variable

    def read(self, t: int) -> Tensor:
        # Of the valid times only 0 and 1 may be bools.
        if not 1 < t < self.n_steps and (t.__class__ is bool or not 0 <= t < self.n_steps):
            raise row_error(t, self.n_steps)
        if self._apart and t in self._apart and is_integer(t):
            return self._apart[t]
        return (self._views or self._make_views())[t]

    def full(self) -> Tensor:
        if self._apart:
            rows = self._buffer[: self.n_steps].unbind(0)
            self.check_unchanged()
            return torch.stack([self._apart.get(t, row) for t, row in enumerate(rows)])
        self.check_unchanged()
        self._exposed = True
        return self._buffer[: self.n_steps]

    def check_unchanged(self) -> None:
        if self._buffer._version or any(row._version for row in self._apart.values() if not row.requires_grad):
            raise WorkspaceError(CHANGED_IN_PLACE)

    def write(self, t: int, value: Tensor) -> None:
        """Writes row ``t``: a copy, or the tensor itself where it carries a gradient.

        Raises:
            WorkspaceError: a gap in time, or a value of another shape, dtype or device than the first row's.
        """
        if not (
            isinstance(value, Tensor)
            and value.shape == self.shape
            and value.dtype is self.dtype
            and value.device == self.device
        ):
            error = self.mismatch(value)
            assert error is not None
            raise error
        stands_apart = value.requires_grad and _is_grad_enabled()
        n_steps = self.n_steps
        if t == n_steps:
            if n_steps == self.capacity:
                self.grow(n_steps + 1)
        else:
            self._check_recorded(t)
            if self._exposed and not stands_apart:
                with torch.inference_mode(False):
                    value, stands_apart = value.detach().clone(), True
        if stands_apart:
            self._apart[t] = value
            self.read_arrays = None
        else:
            (self._write_views or self._make_write_views())[t].copy_(value)
            if self._apart:
                self._apart.pop(t, None)
        if t == n_steps:
            self.n_steps = n_steps + 1

    def extend(self, rows: Tensor) -> None:
        """Writes ``rows``, ``[n, B, …]``, after the last one: a copy without gradients.

        Raises:
            WorkspaceError: rows of another shape, dtype or device.
        """
        error = self.mismatch(rows, (len(rows), *self.shape))
        if error is not None:
            raise error
        stop = self.n_steps + len(rows)
        self.grow(stop)
        self._fill(slice(self.n_steps, stop), rows.detach())
        self.n_steps = stop

    def write_part(self, t: int, start: int, stop: int, value: Tensor) -> None:
        """Writes the batch elements ``start`` … ``stop - 1`` of the existing row ``t``."""
        error = self.mismatch(value, (stop - start, *self.shape[1:]))
        if error is not None:
            raise error
        row = self.read(t)
        if row.requires_grad or (value.requires_grad and _is_grad_enabled()):
            raise WorkspaceError(f"part of row t={t} cannot be written where gradients are recorded")
        row = row.clone()
        row[start:stop] = value.detach()
        self.write(t, row)

    def numpy_row(self, t: int) -> NDArray[Any]:
        """The memory of row ``t`` as an array, to be filled whole and then committed (CPU only).

        Raises:
            WorkspaceError: a gap in time.
        """
        if t != self.n_steps:
            self._check_recorded(t)
            self._make_writable()
            if t == self.n_steps - 1:
                self.n_steps -= 1
                self._apart.pop(t, None)
        elif t == self.capacity:
            self.grow(self.n_steps + 1)
        arrays = self.numpy_rows
        if arrays is None:
            arrays = self.numpy_rows = list(self._buffer.data.numpy())
        return arrays[t]

    def numpy_read(self, t: int) -> NDArray[Any]:
        """Row ``t`` as a read-only array of the variable's memory, without gradients (CPU only)."""
        if self._apart or not 0 <= t < self.n_steps:
            return self.read(t).detach().numpy()
        whole = self._buffer.data.numpy()
        whole.flags.writeable = False
        self.read_arrays = list(whole)
        return self.read_arrays[t]

    def commit(self, t: int) -> None:
        """Records the row ``t`` that was filled through :meth:`numpy_row`."""
        if t == self.n_steps:
            self.n_steps += 1
        else:
            self._apart.pop(t, None)

    def keep_first(self, n: int) -> None:
        self.check_unchanged()
        if n < self.n_steps:
            self.n_steps = n
            self._apart = {t: row for t, row in self._apart.items() if t < n}
            self._make_writable()

    def keep_last(self, n: int) -> None:
        self.check_unchanged()
        n_steps = self.n_steps
        if n == n_steps:
            return
        first = n_steps - n
        self._apart = {t - first: row for t, row in self._apart.items() if t >= first}
        kept = self._buffer[first:n_steps]
        if first < n:
            kept = kept.clone()
        self.n_steps = 0
        self._make_writable()
        self._fill(slice(0, n), kept)
        self.n_steps = n

    def detach(self) -> None:
        if self._apart:
            self._make_writable()
        for t, row in self._apart.items():
            self._fill(t, row.detach())
        self._apart = {}

    def grow(self, n_steps: int) -> None:
        """Makes room for at least ``n_steps`` rows; doubles at least."""
        if n_steps > self.capacity:
            self._move(max(n_steps, 2 * self.capacity))

    def _check_recorded(self, t: int) -> None:
        if t < 0:
            raise row_error(t, self.n_steps)
        if t >= self.n_steps:
            raise WorkspaceError(f"a write at t={t} would leave a gap: the next row is t={self.n_steps}")

    def _allocate(self, capacity: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._buffer = torch.empty((capacity, *self.shape), dtype=self.dtype, device=self.device)
        self.capacity = capacity
        self._exposed = False
        # The rows as separate tensors and arrays are made when they are first wanted: few variables need them all.
        self._views = self._write_views = ()
        self.numpy_rows = self.read_arrays = None

    def _make_views(self) -> tuple[Tensor, ...]:
        with torch.inference_mode(False), torch.no_grad():
            self._views = self._buffer.unbind(0)
        self._exposed = True
        return self._views

    def _make_write_views(self) -> tuple[Tensor, ...]:
        with torch.inference_mode(False), torch.no_grad():
            self._write_views = self._buffer.data.unbind(0)
        return self._write_views

    def _fill(self, where: slice | int, value: Tensor) -> None:
        with torch.no_grad():
            self._buffer.data[where].copy_(value)

    def _move(self, capacity: int) -> None:
        """Moves the recorded rows to fresh memory; views handed out before keep the old."""
        self.check_unchanged()
        old = self._buffer
        self._allocate(capacity)
        if self.n_steps:
            self._fill(slice(0, self.n_steps), old[: self.n_steps])

    def _make_writable(self) -> None:
        if self._exposed:
            self._move(self.capacity)
