"""Rows for a workspace on another device: gathered in one block of host memory, sent with one transfer a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.envs.rows import RowLayout
from bbrl_exp.workspace import Workspace

_ALIGNMENT = 16


class StagedRows:
    """Takes rows as :meth:`Workspace.row_writer` does, for a workspace on ``device``.

    Args:
        workspace: the workspace that is written.
        layout: name → (shape, dtype) of the rows.
        device: the workspace's device.
    """

    def __init__(self, workspace: Workspace, layout: RowLayout, device: torch.device) -> None:
        self._workspace = workspace
        self._device = device
        self._parts: list[tuple[str, slice, torch.dtype, tuple[int, ...]]] = []
        end = 0
        for name, (shape, dtype) in layout.items():
            start = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            self._parts.append((name, slice(start, end), torch_dtype(dtype), shape))
        self._host = torch.zeros(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._rows = [view.numpy() for view in self._views(self._host)]

    def rows(self, t: int) -> list[NDArray[Any]]:
        """The host memory of a row of each variable, in the layout's order; its content is undefined."""
        return self._rows

    def commit(self, t: int) -> None:
        """Sends the rows and records them at time ``t``."""
        # A copy, and not the block itself: the workspace may keep what it is given.
        sent = self._host.to(self._device, copy=True)
        for (name, *_), view in zip(self._parts, self._views(sent), strict=True):
            self._workspace.set(name, t, view)

    def _views(self, block: Tensor) -> list[Tensor]:
        return [block[part].view(dtype).view(shape) for _, part, dtype, shape in self._parts]


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """The dtype of a tensor over an array of ``dtype``."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def packed_to_host(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """The values of tensors of one device as arrays, packed there, moved with one transfer, and taken apart here."""
    parts = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors]
    block = torch.cat(parts).cpu().numpy()
    ends = np.cumsum([part.numel() for part in parts]).tolist()
    return [
        # The copy is aligned again, which a part of the block need not be.
        block[end - part.numel() : end]
        .copy()
        .view(torch.empty(0, dtype=tensor.dtype).numpy().dtype)
        .reshape(tensor.shape)
        for tensor, part, end in zip(tensors, parts, ends, strict=True)
    ]


def tensors_of(value: Any) -> Any:
    """``value`` with tensors in place of arrays, also inside dicts, lists and tuples; they share memory."""
    return _replaced(value, np.ndarray, torch.from_numpy)


def arrays_of(value: Any) -> Any:
    """``value`` with arrays in place of tensors of the CPU, also inside dicts, lists and tuples; they share memory."""
    return _replaced(value, Tensor, Tensor.numpy)


def _replaced(value: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return replace(value)
    if isinstance(value, Mapping):
        return {name: _replaced(item, kind, replace) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, kind, replace) for item in value)
    return value
