"""Whose code an exception comes from."""

from __future__ import annotations

import traceback
from pathlib import Path

from torch import nn


def failing_module(error: BaseException, kinds: tuple[type[nn.Module], ...]) -> nn.Module | None:
    """The innermost module of one of the ``kinds`` in a method of which an exception was raised; None for none."""
    innermost = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        instance = frame.f_locals.get("self")
        if isinstance(instance, kinds):
            innermost = instance
    return innermost


def place_of(error: BaseException, module: nn.Module) -> str:
    """Where the last method of ``module`` was when an exception was raised: ``"agents.py:12"``."""
    lines = [
        f"{Path(frame.f_code.co_filename).name}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_locals.get("self") is module
    ]
    return lines[-1] if lines else ""
