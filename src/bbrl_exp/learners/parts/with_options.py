"""Classes whose constructor's arguments are their fields, so that a family inherits arguments, defaults and ranges."""

from __future__ import annotations

import functools
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, dataclass_transform

from torch import nn


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(field,))
class WithOptions:
    """Makes its subclasses dataclasses with keyword arguments; those with their own constructor stay as they are.

    The signature lists all arguments, those of the bases first. The type of a field may hold its range, outside of
    which :meth:`Learner.__post_init__` refuses it, and a string below the field says what it is. A module is a module
    before it has its fields.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            return
        dataclass(eq=False, repr=False, kw_only=True)(cls)
        for each in fields(cls):  # type: ignore[arg-type]
            # A default that stayed on the class would hide a module of that name.
            if each.default is not MISSING and each.name in vars(cls):
                delattr(cls, each.name)
        if issubclass(cls, nn.Module):
            set_fields = cls.__init__

            @functools.wraps(set_fields)
            def make(self: nn.Module, *arguments: Any, **options: Any) -> None:
                nn.Module.__init__(self)
                set_fields(self, *arguments, **options)

            cls.__init__ = make  # type: ignore[method-assign]
