"""Learners whose constructor's arguments are fields, so that a family inherits arguments, defaults and ranges."""

from __future__ import annotations

import functools
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

from torch import nn

T = TypeVar("T")


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(field,))
def with_options(kind: type[T]) -> type[T]:
    """Makes a class a dataclass with keyword arguments, as a decorator; a module is a module before it has its fields.

    The signature lists all arguments, those of the bases first. Their texts are in the docstrings of the classes that
    define them, and ranges in their types; :meth:`Learner.__post_init__` refuses what is out of range.
    """
    made = dataclass(eq=False, repr=False, kw_only=True)(kind)
    for each in fields(made):  # type: ignore[arg-type]
        # A default that stayed on the class would hide a module of that name.
        if each.default is not MISSING and each.name in vars(made):
            delattr(made, each.name)
    if issubclass(made, nn.Module):
        set_fields = made.__init__

        @functools.wraps(set_fields)
        def make(self: nn.Module, *arguments: Any, **options: Any) -> None:
            nn.Module.__init__(self)
            set_fields(self, *arguments, **options)

        made.__init__ = make  # type: ignore[method-assign]
    return made
