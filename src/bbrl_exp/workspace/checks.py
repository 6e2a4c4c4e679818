"""What the arguments of a workspace's methods may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.arguments import is_integer
from bbrl_exp.errors import WorkspaceError

BatchDims = tuple[int, int]


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


def check_rows(name: str, value: object) -> None:
    """Refuses what cannot be rows of a variable."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        found = "a tensor without dimensions" if isinstance(value, Tensor) else type(value).__name__
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
