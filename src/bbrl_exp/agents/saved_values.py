"""Arrays and tensors in attributes, in the form in which a file holds them, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from bbrl_exp.errors import BbrlExpError


class NotSavedError(BbrlExpError):
    """A part of an attribute cannot be saved.

    Args:
        problem: begins with its path.
        fix: what to do; None for the usual.
    """

    def __init__(self, problem: str, fix: str | None = None) -> None:
        name = re.split(r"\W", problem, maxsplit=1)[0]
        usual = (
            "give its class the methods state() and load_state(state), or, where only the constructor sets it, name it "
            f"in the class: not_saved = ('{name}',)"
        )
        super().__init__(f"{problem}, which cannot be saved: {fix or usual}")


def of_array(value: np.ndarray[Any, Any], path: str) -> dict[str, Any]:
    if value.dtype.hasobject:
        raise NotSavedError(f"{path} is an array of Python objects")
    numbers = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy())
    return {
        "dtype": value.dtype.str if value.dtype.fields is None else value.dtype.descr,
        "shape": value.shape,
        "bytes": numbers,
    }


def array_of(saved: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    array = np.frombuffer(saved["bytes"].numpy().tobytes(), np.dtype(saved["dtype"]))
    return array.reshape(saved["shape"]).copy()


def put_in(current: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not isinstance(current, np.ndarray) or (current.shape, current.dtype) != (array.shape, array.dtype):
        return array
    if not current.flags.writeable:
        return array
    current[...] = array
    return current


def of_tensor(value: Tensor, path: str) -> dict[str, Any]:
    """Bit by bit: what is no parameter may hold NaN and infinity, which a checkpoint refuses elsewhere."""
    if value.layout is not torch.strided or value.is_meta or value.is_quantized or is_lazy(value):
        raise NotSavedError(f"{path} is a tensor that is sparse, quantized or has no numbers")
    numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).clone()
    facts = {"dtype": str(value.dtype).removeprefix("torch."), "shape": tuple(value.shape), "device": str(value.device)}
    return {**facts, "bytes": numbers, "requires_grad": value.requires_grad and value.is_leaf}


def put_in_tensor(current: Any, saved: Mapping[str, Any]) -> Tensor:
    restored = saved["bytes"].cpu().view(getattr(torch, saved["dtype"])).reshape(saved["shape"])
    if isinstance(current, Tensor) and (current.shape, current.dtype) == (restored.shape, restored.dtype):
        with torch.no_grad():
            current.copy_(restored)
        return current
    device = current.device if isinstance(current, Tensor) else saved["device"]
    moved: Tensor = restored.clone().to(device)
    return moved.requires_grad_(saved["requires_grad"])
