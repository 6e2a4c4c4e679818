"""Objects that have a state: what they remember as a checkpoint keeps it, and how it is put back."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from bbrl_exp.errors import BbrlExpError, described, ends_silently

NOTHING = object()
PLAIN = (type(None), bool, int, float, complex, str, bytes)


@runtime_checkable
class HasState(Protocol):
    """Something that reports what it remembers, as tensors and plain Python, and takes it over again."""

    def state(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""


@runtime_checkable
class HasStateDict(Protocol):
    """An optimizer, a scheduler of learning rates or another object of torch."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Takes over what :meth:`state_dict` gave."""


# What a checkpoint gives back of an object's own state.
_STORED = (*PLAIN, Tensor, nn.Parameter, torch.Size, torch.dtype, torch.device)
_GENERATORS: Mapping[type[Any], tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    torch.Generator: (lambda it: it.get_state(), lambda it, state: it.set_state(state.cpu())),
    np.random.Generator: (
        lambda it: _in_lists(it.bit_generator.state),
        lambda it, state: setattr(it.bit_generator, "state", state),
    ),
    random.Random: (lambda it: it.getstate(), lambda it, state: it.setstate(state)),
}


def own_state(value: Any) -> Any:
    """What an object remembers that can be put back into it; ``NOTHING`` for other things."""
    if isinstance(value, type):
        return NOTHING
    for kind, (get, _) in _GENERATORS.items():
        if isinstance(value, kind):
            return get(value)
    if isinstance(value, HasState):
        return value.state()
    return value.state_dict() if isinstance(value, HasStateDict) else NOTHING


def own_state_at(value: Any, path: str) -> Any:
    """See :func:`own_state`.

    Raises:
        BbrlExpError: the object's method raises.
    """
    try:
        return own_state(value)
    except RecursionError:  # where the containers around it are too deep
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not ends_silently(error):
            raise
        raise BbrlExpError(f"{path} is {in_words(value)}, whose state cannot be read: {described(error)}") from error


def load_own_state(value: Any, state: Any) -> bool:
    """Gives an object what :func:`own_state` was; False for one without a state."""
    if isinstance(value, type):
        return False
    for kind, (_, put) in _GENERATORS.items():
        if isinstance(value, kind):
            put(value, state)
            return True
    if isinstance(value, HasState):
        value.load_state(state)
    elif isinstance(value, HasStateDict):
        value.load_state_dict(state)
    else:
        return False
    return True


def not_stored(state: Any, path: str, around: frozenset[int] = frozenset()) -> str | None:
    """The first part of an object's state that no checkpoint gives back, ``<path> is a deque``; None where all do."""
    if type(state) in _STORED:
        return None
    if id(state) in around:
        return f"{path} is {in_words(state)} in itself"
    inside = around | {id(state)}
    if type(state) in (dict, OrderedDict, Counter):
        for key in state:
            if not_stored(key, path, inside) is not None:
                return f"{path} has {in_words(key)} as a key"
        parts = state.items()
    elif type(state) in (list, tuple, set):
        parts = enumerate(state)
    else:
        return f"{path} is {in_words(state)}"
    found = (not_stored(part, f"{path}[{key!r}]", inside) for key, part in parts)
    return next((problem for problem in found if problem is not None), None)


def _in_lists(state: Any) -> Any:
    """The state of a generator, in which some kinds have arrays, as plain Python."""
    if isinstance(state, dict):
        return {key: _in_lists(part) for key, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def in_words(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
