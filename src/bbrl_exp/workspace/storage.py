"""How one variable of a workspace is stored: as one whole tensor, in shared memory, or row by row (``stepped.py``).

Also what the arguments of a workspace's methods may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import WorkspaceError

BatchDims = tuple[int, int]

_is_grad_enabled = torch.is_grad_enabled


def check_name(name: object) -> None:
    """Refuses what cannot be the name of a variable."""
    if not isinstance(name, str) or not name:
        raise WorkspaceError(f"a variable's name is a non-empty string, found {name!r}")


def check_count(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuses what is not an integer from ``least`` to ``most``."""
    if not is_integer(value) or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise WorkspaceError(f"{name}={value}: must be an integer {bounds}")


def check_window(from_time: int, to_time: int, n_steps: int, name: str | None = None) -> None:
    """Refuses a window that is empty or not wholly recorded."""
    if not (is_integer(from_time) and is_integer(to_time) and 0 <= from_time < to_time <= n_steps):
        where = "" if name is None else f"'{name}': "
        raise WorkspaceError(
            f"{where}no window [{from_time}:{to_time}] in the recorded rows: must be integers from 0 to {n_steps}"
        )


def check_rows(name: str, value: object, *, batch_is_optional: bool = False) -> None:
    """Refuses what cannot be rows of a variable."""
    if not isinstance(value, Tensor) or value.dim() < (1 if batch_is_optional else 2):
        found = f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise WorkspaceError(f"'{name}': expected a torch.Tensor [T, B, …], found {found}")


def check_indexes(name: str, indexes: object, size: int) -> None:
    """Refuses anything but indexes below ``size``, int64 ``[N]``."""
    if not isinstance(indexes, Tensor) or indexes.dtype != torch.int64 or indexes.dim() != 1:
        found = f"{list(indexes.shape)} {indexes.dtype}" if isinstance(indexes, Tensor) else type(indexes).__name__
        raise WorkspaceError(f"{name}: expected a tensor of indexes, [N] torch.int64, found {found}")
    if len(indexes) and not 0 <= int(indexes.min()) <= int(indexes.max()) < size:
        raise WorkspaceError(
            f"{name}: found {int(indexes.min())} to {int(indexes.max())}, must be from 0 to {size - 1}"
        )


def batch_slice(batch_dims: BatchDims, row_shape: Sequence[int], name: str) -> slice:
    """The batch elements ``batch_dims`` = (start, stop) of a row ``[B, …]``."""
    if not row_shape:
        raise WorkspaceError(f"'{name}': batch_dims={batch_dims}: the variable has no batch dimension")
    is_pair = isinstance(batch_dims, tuple | list) and len(batch_dims) == 2 and all(map(is_integer, batch_dims))
    if not is_pair or not 0 <= batch_dims[0] < batch_dims[1] <= row_shape[0]:
        raise WorkspaceError(
            f"'{name}': batch_dims={batch_dims}: must be two integers, 0 <= start < stop <= {row_shape[0]}"
        )
    return slice(*batch_dims)


CHANGED_IN_PLACE = (
    "the recorded rows were changed in place through a tensor that was read or set; change a clone(), and record it "
    "with set_full"
)


def row_error(t: int, n_steps: int) -> Exception:
    """The error of reading row ``t`` of ``n_steps`` rows."""
    if not is_integer(t):
        return TypeError(f"row {t!r}")
    if t < 0:
        return WorkspaceError(f"t={t} is negative; time starts at 0")
    written = f"rows 0 to {n_steps - 1} are" if n_steps else "no row is"
    return WorkspaceError(f"row t={t} was never written; {written} there")


class Variable:
    """What the three kinds of storage have in common: the facts of a row, checked at every write.

    Attributes:
        shape: shape of one row, ``[B, …]``.
        dtype: dtype of every row.
        device: device of every row.
        n_steps: number of recorded rows.
    """

    __slots__ = ("device", "dtype", "n_steps", "shape")

    def __init__(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.n_steps = 0

    def read(self, t: int) -> Tensor:
        """Row ``t``, ``[B, …]``: a view where the row was written in place."""
        raise NotImplementedError

    def full(self) -> Tensor:
        """All rows, ``[T, B, …]``: a view unless rows were recorded for autograd one by one."""
        raise NotImplementedError

    def rows(self, first: int, stop: int) -> Tensor:
        """The recorded rows ``first`` … ``stop - 1``, ``[stop - first, B, …]``, as :meth:`full` gives them."""
        return self.full()[first:stop]

    def mapped(self, change: Callable[[Tensor], Tensor], *, keeps_time: bool = False) -> Variable:
        """A variable of what ``change`` makes of all rows, ``[T, B, …]``.

        Args:
            change: must not write into what it is given.
            keeps_time: whether its result has the same rows in time, so that rows may be unwritten.
        """
        return WholeVariable(change(self.full()))

    def check_unchanged(self) -> None:
        """Refuses rows that somebody who read them has changed in place; a change through numpy goes unnoticed.

        Raises:
            WorkspaceError: how to change rows instead.
        """

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
        expected = f"{list(expected_shape)} {self.dtype} on {self.device}".replace("torch.", "")
        found = f"{list(value.shape)} {value.dtype} on {value.device}".replace("torch.", "")
        return WorkspaceError(f"expected {expected}, found {found}")


class WholeVariable(Variable):
    """One tensor ``[T, B, …]``, kept as it was given.

    If it is a view of a parameter, it follows the parameter until it is cut from its graph.
    """

    __slots__ = ("_version", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor.shape[1:], tensor.dtype, tensor.device)
        if tensor.is_inference():
            with torch.inference_mode(False):
                tensor = tensor.clone()
        self.tensor = tensor
        self._version = tensor._version
        self.n_steps = len(tensor)

    def read(self, t: int) -> Tensor:
        if not is_integer(t) or not 0 <= t < self.n_steps:
            raise row_error(t, self.n_steps)
        return self.tensor[t]

    def full(self) -> Tensor:
        self.check_unchanged()
        return self.tensor

    def check_unchanged(self) -> None:
        if self.tensor._version != self._version and not self._is_of_parameter():
            raise WorkspaceError(CHANGED_IN_PLACE)

    def keep_first(self, n: int) -> None:
        self.check_unchanged()
        self.tensor = self.tensor[:n]
        self.n_steps = len(self.tensor)

    def keep_last(self, n: int) -> None:
        self.check_unchanged()
        self.tensor = self.tensor[self.n_steps - n :]
        self.n_steps = n

    def detach(self) -> None:
        with torch.inference_mode(False):
            self.tensor = self.tensor.detach().clone() if self._is_of_parameter() else self.tensor.detach()
        self._version = self.tensor._version

    def _is_of_parameter(self) -> bool:
        """Whether the memory is that of a parameter: optimizers change it in place, and autograd lets nobody else."""
        owner = self.tensor if self.tensor._base is None else self.tensor._base
        return owner.requires_grad and owner.is_leaf


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
        self.n_steps = len(tensor)

    def read(self, t: int) -> Tensor:
        if not is_integer(t) or not 0 <= t < self.n_steps:
            raise row_error(t, self.n_steps)
        return self.tensor[t].clone() if _is_grad_enabled() else self.tensor[t]

    def full(self) -> Tensor:
        return self.tensor.clone() if _is_grad_enabled() else self.tensor

    def mapped(self, change: Callable[[Tensor], Tensor], *, keeps_time: bool = False) -> Variable:
        return WholeVariable(change(self.tensor.clone()))

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
        if n < self.n_steps:
            raise WorkspaceError("the rows of a shared workspace cannot be dropped")

    keep_last = keep_first

    def detach(self) -> None:
        pass
