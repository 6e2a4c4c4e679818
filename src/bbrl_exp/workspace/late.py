"""A variable that is written first at a time t > 0: the rows before are unwritten, and nobody can read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace.stepped import SteppedVariable
from bbrl_exp.workspace.storage import Variable


class LateVariable(SteppedVariable):
    """Rows from ``first`` on; the one before ``first`` can still be written, and then the one before that.

    Where a cut in time has left no row, the next write is a first one again, at any time.

    Args:
        first: time of the first write.
        shape: shape of one row, ``[B, …]``.
        dtype: dtype of every row.
        device: device of every row.
        capacity: rows for which there is memory at once.
    """

    __slots__ = ("first",)

    def __init__(
        self, first: int, shape: torch.Size, dtype: torch.dtype, device: torch.device, capacity: int = 0
    ) -> None:
        super().__init__(shape, dtype, device, max(capacity, first + 1))
        self._fill(slice(0, first), torch.zeros((), dtype=dtype, device=device))
        self.first = self.n_steps = first

    @classmethod
    def from_rows(cls, first: int, rows: Tensor) -> LateVariable:
        """The variable whose rows from ``first`` on are ``rows``, ``[n, B, …]``."""
        late = cls(first, rows.shape[1:], rows.dtype, rows.device, first + len(rows))
        for t, row in enumerate(rows, first):
            late.write(t, row)
        return late

    def read(self, t: int) -> Tensor:
        if 0 <= t < self.first:
            raise self._unwritten(f"row t={t} was")
        return super().read(t)

    def full(self) -> Tensor:
        return self.rows(0, self.n_steps)

    def rows(self, first: int, stop: int) -> Tensor:
        if first < self.first:
            raise self._unwritten("row 0 was" if self.first == 1 else f"rows 0 to {self.first - 1} were")
        return super().full()[first:stop]

    def mapped(self, change: Callable[[Tensor], Tensor], *, keeps_time: bool = False) -> Variable:
        if not keeps_time:
            return super().mapped(change)
        return LateVariable.from_rows(self.first, change(super().full())[self.first :])

    def write(self, t: int, value: Tensor) -> None:
        self._prepare(t)
        super().write(t, value)
        self.first = min(self.first, t)

    def numpy_row(self, t: int) -> NDArray[Any]:
        self._prepare(t)
        return super().numpy_row(t)

    def commit(self, t: int) -> None:
        super().commit(t)
        self.first = min(self.first, t)

    def keep_first(self, n: int) -> None:
        super().keep_first(n)
        self.first = min(self.first, n)

    def keep_last(self, n: int) -> None:
        n_dropped = self.n_steps - n
        super().keep_last(n)
        self.first = max(self.first - n_dropped, 0)

    def _prepare(self, t: int) -> None:
        if t < 0:
            return  # which the write refuses
        if self.first == self.n_steps:
            self.grow(t + 1)
            self._make_writable()
            self._fill(slice(0, t), torch.zeros((), dtype=self.dtype, device=self.device))
            self.first = self.n_steps = t
        elif t < self.first - 1:
            raise WorkspaceError(
                f"a write at t={t} would leave a gap: the first row is t={self.first}, so the row before it is "
                f"t={self.first - 1}"
            )

    def _unwritten(self, what: str) -> WorkspaceError:
        return WorkspaceError(
            f"{what} never written; the variable begins at t={self.first}: read its rows with get(name, t) or "
            f"get_time_truncated(name, {self.first}, {self.n_steps})"
        )
