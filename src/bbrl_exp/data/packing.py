"""Rows of several variables packed side by side in one block of memory, so that one gather reads all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_WORD = 8

# For each variable: dtype, size, strides and first element of its view.
Windows = list[tuple[torch.dtype, tuple[int, ...], tuple[int, ...], int]]


@dataclass(frozen=True)
class Field:
    """One variable in a packed row.

    Attributes:
        shape: the shape of one environment's value, without time and batch.
        dtype: its dtype, of at most 8 bytes.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


class RowLayout:
    """Where each variable stands in a packed row: the widest dtypes first, so that every one is aligned.

    Attributes:
        fields: name → field.
        n_bytes: bytes of a row that variables fill.
        n_words: 8-byte words of a row.
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.fields = dict(fields)
        self._starts: dict[str, int] = {}
        self.n_bytes = 0
        for name, field in sorted(self.fields.items(), key=lambda item: -item[1].dtype.itemsize):
            self._starts[name] = self.n_bytes // field.dtype.itemsize
            self.n_bytes += math.prod(field.shape) * field.dtype.itemsize
        self.n_words = math.ceil(self.n_bytes / _WORD)

    def view(self, words: Tensor, name: str) -> Tensor:
        """The variable ``name`` of packed rows, int64 ``[…, n_words]``, as a view ``[…, *shape]`` of its own dtype.

        The rows are contiguous.
        """
        return self.views(words, self.windows(words.shape[:-1], 1, [(0, name)]))[0]

    def windows(self, leading: Sequence[int], n_rows: int, wanted: Iterable[tuple[int, str]]) -> Windows:
        """Where variables stand in contiguous windows of packed rows, ``[*leading, n_rows, n_words]``.

        Args:
            leading: how many windows.
            n_rows: rows of a window.
            wanted: the row in the window and the name of the variable, for each.
        """
        windows = []
        for row, name in wanted:
            field = self.fields[name]
            per_row = self.n_words * _WORD // field.dtype.itemsize
            strides = (*(stride * n_rows * per_row for stride in _strides(leading)), *_strides(field.shape))
            windows.append((field.dtype, (*leading, *field.shape), strides, row * per_row + self._starts[name]))
        return windows

    @staticmethod
    def views(words: Tensor, windows: Windows) -> list[Tensor]:
        """The variables of contiguous ``words`` as views of their own dtypes, contiguous in each window only."""
        as_dtype: dict[torch.dtype, Tensor] = {}
        views = []
        for dtype, size, strides, start in windows:
            values = as_dtype.get(dtype)
            if values is None:
                values = as_dtype[dtype] = words.view(dtype)
            views.append(values.as_strided(size, strides, start))
        return views


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
