"""Rows of several variables packed side by side in one block of memory, so that one gather reads all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_WORD = 8


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
        self._strides = {name: _contiguous_strides(field.shape) for name, field in fields.items()}
        self.n_bytes = 0
        for name, field in sorted(self.fields.items(), key=lambda item: -item[1].dtype.itemsize):
            self._starts[name] = self.n_bytes // field.dtype.itemsize
            self.n_bytes += math.prod(field.shape) * field.dtype.itemsize
        self.n_words = math.ceil(self.n_bytes / _WORD)

    def view(self, words: Tensor, name: str) -> Tensor:
        """The variable ``name`` of packed rows, int64 ``[…, n_words]``, as a view ``[…, *shape]`` of its own dtype."""
        return self.views(words[..., None, :], [(0, name)])[0]

    def views(self, words: Tensor, wanted: Iterable[tuple[int, str]]) -> list[Tensor]:
        """Several variables of windows of packed rows, int64 ``[…, L, n_words]``, as views of their own dtypes.

        Args:
            words: the windows.
            wanted: for each view ``[…, *shape]`` the row in the window, and the name of the variable.
        """
        *leading, _, _ = words.shape
        *leading_strides, row_stride, _ = words.stride()
        as_dtype: dict[torch.dtype, Tensor] = {}
        views = []
        for row, name in wanted:
            field = self.fields[name]
            values = as_dtype.get(field.dtype)
            if values is None:
                values = as_dtype[field.dtype] = words.view(field.dtype)
            per_word = _WORD // field.dtype.itemsize
            views.append(
                values.as_strided(
                    (*leading, *field.shape),
                    (*[stride * per_word for stride in leading_strides], *self._strides[name]),
                    (words.storage_offset() + row * row_stride) * per_word + self._starts[name],
                )
            )
        return views


def _contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
