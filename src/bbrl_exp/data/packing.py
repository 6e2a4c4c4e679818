"""Rows of several variables packed side by side in one block of memory, so that one gather reads all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Bytes of a word, the widest dtype of a variable.
WORD = 8


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
            self._starts[name] = self.n_bytes
            self.n_bytes += math.prod(field.shape) * field.dtype.itemsize
        self.n_words = math.ceil(self.n_bytes / WORD)

    def view(self, words: Tensor, name: str) -> Tensor:
        """The variable ``name`` of packed rows, int64 ``[…, n_words]``, as a view ``[…, *shape]`` of its own dtype."""
        field, start = self.fields[name], self._starts[name]
        flat = words.view(field.dtype).narrow(-1, start // field.dtype.itemsize, math.prod(field.shape))
        return flat.view(*words.shape[:-1], *field.shape)

    def window_dtype(self, wanted: Sequence[tuple[int, str]], n_rows: int) -> np.dtype[np.void]:
        """The structured dtype of windows of ``n_rows`` rows: field number i is the i-th of the variables ``wanted``.

        Args:
            wanted: the row in the window and the name of the variable, for each.
            n_rows: rows of a window.
        """
        fields = [self.fields[name] for _, name in wanted]
        n_bytes = self.n_words * WORD
        return np.dtype(
            {
                "names": [str(index) for index in range(len(wanted))],
                "formats": [(torch.empty(0, dtype=field.dtype).numpy().dtype, field.shape) for field in fields],
                "offsets": [row * n_bytes + self._starts[name] for row, name in wanted],
                "itemsize": n_rows * n_bytes,
            }
        )
