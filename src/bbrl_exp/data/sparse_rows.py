"""Variables of which a replay buffer keeps every k-th row: the states of memories, where sequences begin."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.data.ring import Field
from bbrl_exp.errors import WorkspaceError


class SparseRows:
    """Every k-th of the last rows of B environments, by the numbers of the rows: 0, k, 2 k, …

    Args:
        fields: name → shape and dtype of one environment's value.
        stride: k.
        n_rows: rows whose multiples of k are kept, counted back from the last one written.
        batch_size: number B of environments.
        device: where they are kept.

    Attributes:
        fields: as above.
    """

    def __init__(
        self, fields: Mapping[str, Field], stride: int, n_rows: int, batch_size: int, device: torch.device
    ) -> None:
        self.fields = dict(fields)
        self._stride = stride
        self._n_slots = self.slots_for(n_rows, stride)
        with torch.inference_mode(False):
            self._kept = {
                name: torch.empty((self._n_slots, batch_size, *field.shape), dtype=field.dtype, device=device)
                for name, field in fields.items()
            }

    @staticmethod
    def slots_for(n_rows: int, stride: int) -> int:
        """Most multiples of ``stride`` among ``n_rows`` consecutive numbers."""
        return math.ceil(n_rows / stride)

    @staticmethod
    def bytes_for(fields: Mapping[str, Field], stride: int, n_rows: int, batch_size: int) -> int:
        """Bytes of memory that they take."""
        row = sum(math.prod(field.shape) * field.dtype.itemsize for field in fields.values())
        return SparseRows.slots_for(n_rows, stride) * batch_size * row

    def append(self, first: int, values: Mapping[str, Tensor]) -> None:
        """Takes further rows.

        Args:
            first: the number of the first of them.
            values: name → ``[L, B, …]``, all L rows.

        Raises:
            WorkspaceError: another shape or dtype than that of the fields; nothing is written then.
        """
        for name, field in self.fields.items():
            found, kept = values[name], self._kept[name]
            if found.dtype != field.dtype or found.shape[1:] != kept.shape[1:]:
                expected = f"{[len(found), *kept.shape[1:]]} {field.dtype}".replace("torch.", "")
                shown = f"{list(found.shape)} {found.dtype}".replace("torch.", "")
                raise WorkspaceError(f"replay: '{name}': expected {expected}, found {shown}")
        skipped = -first % self._stride
        self.append_kept(first, {name: value[skipped :: self._stride] for name, value in values.items()})

    def append_kept(self, first: int, values: Mapping[str, Tensor]) -> None:
        """As :meth:`append`, for the multiples of k alone, ``[n, B, …]``: the rows from ``first`` on that are kept."""
        index = math.ceil(first / self._stride)
        for name, kept in self._kept.items():
            rows = values[name].detach()[-self._n_slots :]
            slots = torch.arange(index + len(values[name]) - len(rows), index + len(values[name])) % self._n_slots
            kept[slots.to(kept.device)] = rows.to(kept.device)

    def at(self, name: str, rows: NDArray[np.int64], environments: NDArray[np.int64]) -> Tensor:
        """The variable ``name`` of N rows, all multiples of k, of one environment each, ``[N, …]``."""
        kept = self._kept[name]
        places = torch.from_numpy(rows // self._stride % self._n_slots * kept.shape[1] + environments)
        return kept.flatten(0, 1).index_select(0, places.to(kept.device))

    def read(self, first: int, stop: int) -> dict[str, Tensor]:
        """A copy on the CPU of those of the rows ``first`` … ``stop - 1`` that are kept: name → ``[n, B, …]``."""
        numbers = torch.arange(math.ceil(first / self._stride), math.ceil(stop / self._stride)) % self._n_slots
        return {name: kept[numbers.to(kept.device)].cpu() for name, kept in self._kept.items()}
