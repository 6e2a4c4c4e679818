"""Products of thin matrices, such as those of a layer with few inputs, in forms that are fast on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

# Up to this size of its smallest dimension a product is written as a sum, which is fused with what comes around it.
_SUMMED = 2
# Up to this number of columns the product of a transposed matrix is computed as that of the other one, transposed.
_TURNED = 8


def thin_products() -> Mapping[torch._ops.OpOverload, Callable[..., Any]]:
    """Other forms of matrix products, by operation: a decomposition table for ``make_fx``."""
    return {torch.ops.aten.mm.default: _mm, torch.ops.aten.addmm.default: _addmm}


def _mm(first: Tensor, second: Tensor) -> Any:
    rows, columns = first.shape[0], second.shape[1]
    if not _is_on_cpu_in_float(first):
        return NotImplemented
    if min(rows, first.shape[1], columns) <= _SUMMED:
        return (first[:, :, None] * second[None]).sum(1)
    if columns <= _TURNED < rows and first.stride(0) == 1:
        return (second.t() @ first.t()).t().contiguous()
    return NotImplemented


def _addmm(added: Tensor, first: Tensor, second: Tensor, beta: float = 1.0, alpha: float = 1.0) -> Any:
    if beta != 1.0 or alpha != 1.0 or (product := _mm(first, second)) is NotImplemented:
        return NotImplemented
    return added + product


def _is_on_cpu_in_float(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
