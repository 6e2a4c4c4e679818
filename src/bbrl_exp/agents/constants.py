"""Values that nobody can change, so that of an attribute with such a value nothing is saved."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import logging
import pathlib
import re
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.agents.object_state import PLAIN
from bbrl_exp.functional.schedules import Schedule

_SIZE_OF_NOTHING = type("Nothing", (), {}).__basicsize__
_CONSTANT: tuple[type[Any], ...] = (
    *(bool, int, float, complex, str, bytes),  # subclasses, such as members of an enumeration
    *(type, types.FunctionType, types.ModuleType, types.GenericAlias, types.UnionType, np.ufunc, np.dtype),
    *(enum.Enum, range, slice, pathlib.PurePath, re.Pattern, logging.Logger, decimal.Decimal, fractions.Fraction),
    *(datetime.date, datetime.time, datetime.timedelta, torch.device, torch.dtype, torch.layout, torch.Size),
    *(torch.memory_format, Schedule, types.BuiltinFunctionType, type(np.mean), functools._lru_cache_wrapper),
)


def is_constant(value: Any) -> bool:
    """Whether nobody can change a value: an immutable one, or an object without attributes."""
    if type(value) in PLAIN or isinstance(value, _CONSTANT):
        return True
    if dataclasses.is_dataclass(value):
        parameters = value.__dataclass_params__  # type: ignore[union-attr]
        own = [getattr(value, each.name, None) for each in dataclasses.fields(value)]
        return parameters.frozen and all(map(_is_part_of_constant, own))
    if isinstance(value, functools.partial):
        return all(map(_is_part_of_constant, (value.func, *value.args, *value.keywords.values())))
    has_slots = any("__slots__" in vars(kind) for kind in type(value).__mro__)
    keeps_more = type(value).__basicsize__ > _SIZE_OF_NOTHING  # beside its attributes, as what is written in C does
    return hasattr(value, "__dict__") and not vars(value) and not has_slots and not keeps_more


def _is_part_of_constant(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_part_of_constant, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_part_of_constant, value))
    return isinstance(value, Tensor | np.ndarray | np.generic) or is_constant(value)


def is_same(value: Any, other: Any) -> bool:
    try:
        return value is other or bool(value == other)
    except Exception:
        return False
