"""Attributes that were saved, put back into a module that is built alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import nn

from bbrl_exp.agents.attributes import TAG
from bbrl_exp.agents.object_state import load_own_state
from bbrl_exp.agents.saved_values import array_of, put_in, put_in_tensor


def restore_attributes(module: nn.Module, saved: Mapping[str, Any], *, adds: bool = False) -> None:
    """Takes over what ``AttributeState.saved`` was, in a module that is built alike: in place, where that can be.

    Attributes that are not there yet are added if ``adds``, and if they were new when they were saved. A
    number that is no attribute any more was an option, which versions up to 0.1.0 kept under another name; options come
    from the configuration.
    """
    for name, value in saved.items():
        if name in vars(module):
            current = getattr(module, name)
            restored = _decoded(value, current)
            if restored is not current:
                setattr(module, name, restored)
        elif adds or (isinstance(value, dict) and value.get(TAG) == "new"):
            setattr(module, name, _decoded(value if adds else value["value"], None))
        elif not isinstance(value, int | float):
            raise AttributeError(f"{type(module).__name__} has no attribute '{name}'")


def _decoded(saved: Any, current: Any) -> Any:
    """The value that was saved, put into the ``current`` object where that can take it over."""
    tag = saved.get(TAG) if isinstance(saved, dict) else None
    if tag is None:
        if load_own_state(current, saved):
            return current
        if isinstance(current, set | frozenset | deque) and isinstance(saved, list):  # as version 0.1.0 saved them
            tag = type(current).__name__
            saved = {"value": saved, "maxlen": getattr(current, "maxlen", None)}
    content = saved if tag is None else saved.get("value")
    if tag == "kept":
        return current
    if tag == "object":
        load_own_state(current, content)
        return current
    if tag == "method":
        _decoded(content, current.__self__)
        return current
    if tag == "number":
        return array_of(content)[()]
    if tag == "array":
        return put_in(current, array_of(content))
    if tag == "tensor":
        return put_in_tensor(current, saved)
    if tag in ("set", "frozenset"):
        if isinstance(current, set):
            current.clear()
            current.update(content)
            return current
        return (set if tag == "set" else type(current) if isinstance(current, frozenset) else frozenset)(content)
    if isinstance(content, dict):
        there = current if isinstance(current, dict) else {}
        restored = {key: _decoded(part, there.get(key)) for key, part in content.items()}
        there.clear()
        there.update(restored)
        return there
    if isinstance(content, list | tuple):
        before = list(current) if isinstance(current, list | tuple | deque) else []
        before += [None] * (len(content) - len(before))
        items = [_decoded(part, old) for part, old in zip(content, before, strict=False)]
        if tag == "deque":
            queue = current if isinstance(current, deque) else deque(maxlen=saved["maxlen"])
            queue.clear()
            queue.extend(items)
            return queue
        if isinstance(content, list) and isinstance(current, list):
            current[:] = items
            return current
        if tag == "named" and hasattr(current, "_fields"):
            return type(current)(*items)
        return items if isinstance(content, list) else tuple(items)
    return content
