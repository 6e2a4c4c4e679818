"""The workspace on which agents run while what they do at a step is written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from torch import Tensor

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import BatchDims, RowFacts, RowReader, RowWriter, Workspace

BEFORE, NOW = 0, 1


class TwoRows(Workspace):
    """The rows of a step, at t = 1, and of the step before it. Nothing is checked and nothing is copied.

    Args:
        rows: what is known, (variable, t) → ``[B, …]``.
        examples: variable → ``[B, …]``: what is read where nothing is known; each such read is noted.

    Attributes:
        asked: the reads that were noted, in their order, (variable, t).
    """

    def __init__(self, rows: Mapping[tuple[str, int], Tensor], examples: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.asked: list[tuple[str, int]] = []
        self._rows = dict(rows)
        self._examples = examples or {}

    def get(self, name: str, t: int, batch_dims: BatchDims | None = None) -> Tensor:
        row = name, t
        if row not in self._rows:
            if t not in (BEFORE, NOW):
                raise WorkspaceError(f"'{name}' at {_relative(t)}; an exported policy knows t and t - 1 alone")
            if name not in self._examples:
                raise WorkspaceError(f"'{name}' at {_relative(t)}, which nobody writes")
            self.asked.append(row)
            self._rows[row] = self._examples[name]
        return self._rows[row]

    def set(self, name: str, t: int, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        self._rows[name, t] = value

    def get_full(self, name: str, batch_dims: BatchDims | None = None) -> Tensor:
        self._refuse(f"all rows of '{name}'")

    def set_full(self, name: str, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        self._refuse(f"all rows of '{name}'")

    def row_reader(self, names: tuple[str, ...]) -> RowReader:
        self._refuse("arrays, also where it is not on the CPU")

    def row_writer(self, variables: RowFacts) -> RowWriter:
        self._refuse("arrays, also where it is not on the CPU")

    def _refuse(self, what: str) -> NoReturn:
        raise WorkspaceError(f"{what}; an exported policy knows tensors of t and t - 1 alone")


def _relative(t: int) -> str:
    return "t" if t == NOW else f"t {'+' if t > NOW else '-'} {abs(t - NOW)}"
