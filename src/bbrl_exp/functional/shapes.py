"""The contract of the functions of this package: which shapes go together."""

from __future__ import annotations

import torch
from torch import Tensor

from bbrl_exp.errors import BbrlExpError


class ShapeError(BbrlExpError):
    """Tensors whose shapes or dtypes do not fit what a function computes."""


def expect_alike(function: str, dims: str, **tensors: Tensor) -> None:
    """Checks that all tensors have the same shape, with one letter of ``dims`` for each dimension.

    Broadcasting ``[N]`` against ``[N, 1]`` gives ``[N, N]`` and no error: this is where such a slip is found.

    Raises:
        ShapeError: another number of dimensions, or shapes that differ.
    """
    shapes = [tensor.shape for tensor in tensors.values()]
    if len(shapes[0]) != len(dims) or any(shape != shapes[0] for shape in shapes):
        found = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise ShapeError(f"{function}: expected all of the same shape [{', '.join(dims)}], found {found}")


def expect_bool(function: str, **masks: Tensor) -> None:
    """Checks that masks are of bools: ``~`` of a mask of numbers is something else than one expects.

    Raises:
        ShapeError: another dtype.
    """
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise ShapeError(f"{function}: expected a mask of torch.bool, found {name} of {mask.dtype}")
