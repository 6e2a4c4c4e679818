"""How one variable of a workspace is stored: as one whole tensor, in shared memory, or row by row (``stepped.py``)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import WorkspaceError

_is_grad_enabled = torch.is_grad_enabled


def row_error(t: int, n_steps: int) -> Exception:
    """The error of reading row ``t`` of ``n_steps`` rows."""
    if not is_integer(t):
        return TypeError(f"row {t!r}")
    if t < 0:
        return WorkspaceError(f"t={t} is negative; time starts at 0")
    written = f"rows 0 to {n_steps - 1} are" if n_steps else "no row is"
    return WorkspaceError(f"row t={t} was never written; {written} there")


def _describe(value: Tensor) -> str:
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"


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


class WholeVariable(Variable):
    """One tensor ``[T, B, …]``, kept as it was given."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor.shape[1:], tensor.dtype, tensor.device)
        if tensor.is_inference():
            with torch.inference_mode(False):
                tensor = tensor.clone()
        self.tensor = tensor
        self.n_steps = len(tensor)

    def read(self, t: int) -> Tensor:
        if not is_integer(t) or not 0 <= t < self.n_steps:
            raise row_error(t, self.n_steps)
        return self.tensor[t]

    def full(self) -> Tensor:
        return self.tensor

    def keep_first(self, n: int) -> None:
        self.tensor = self.tensor[:n]
        self.n_steps = len(self.tensor)

    def keep_last(self, n: int) -> None:
        self.tensor = self.tensor[self.n_steps - n :]
        self.n_steps = n

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
        self.n_steps = len(tensor)

    def read(self, t: int) -> Tensor:
        if not is_integer(t) or not 0 <= t < self.n_steps:
            raise row_error(t, self.n_steps)
        return self.tensor[t].clone() if _is_grad_enabled() else self.tensor[t]

    def full(self) -> Tensor:
        return self.tensor.clone() if _is_grad_enabled() else self.tensor

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
