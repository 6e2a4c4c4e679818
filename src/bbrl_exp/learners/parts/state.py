"""What a learner remembers besides parameters and buffers, found among its attributes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from bbrl_exp.data.replay import ReplayBuffer

_OF_MODULES = frozenset(vars(nn.Module()))


@runtime_checkable
class HasState(Protocol):
    """Something that tells what it remembers, as tensors and plain Python, and takes it over again."""

    def state(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""


@runtime_checkable
class HasReplay(HasState, Protocol):
    """Something that fills a replay buffer."""

    buffer: ReplayBuffer


class SavesAttributes(nn.Module):
    """A module whose ``state_dict`` has the state of its attributes beside parameters and buffers."""

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the attributes: tensors and plain Python; of replay buffers all but the rows."""
        return attribute_state(self)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`get_extra_state` gave."""
        load_attribute_state(self, state)


def attribute_state(module: nn.Module) -> dict[str, Any]:
    """The state of those attributes of ``module`` that have one, by name.

    These are optimizers, random generators of torch and numpy, numbers, objects with ``state`` and ``load_state``, and
    lists, dictionaries, sets and deques of nothing but numbers, texts, None, and such collections again. What else
    stands inside of a collection is not found. Rows of replay buffers are left out.
    """
    return {name: _state_of(value) for name, value in vars(module).items() if _has_state(name, value)}


def load_attribute_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Takes over what :func:`attribute_state` gave, in a module that is built alike.

    A number that is no attribute any more was an option, which versions up to 0.1.0 kept under another name; options
    come from the configuration.
    """
    for name, saved in state.items():
        if name not in vars(module) and isinstance(saved, int | float):
            continue
        value = getattr(module, name)
        if isinstance(value, torch.Generator):
            value.set_state(saved.cpu())
        elif isinstance(value, np.random.Generator):
            value.bit_generator.state = saved
        elif isinstance(value, torch.optim.Optimizer):
            value.load_state_dict(saved)
        elif isinstance(value, HasState):
            value.load_state(saved)
        elif isinstance(value, deque):
            setattr(module, name, deque(saved, value.maxlen))
        elif isinstance(value, set):
            setattr(module, name, set(saved))
        else:
            setattr(module, name, saved)


def replay_buffers(module: nn.Module) -> dict[str, ReplayBuffer]:
    """The replay buffers among the attributes of ``module``, by name."""
    found = {
        name.lstrip("_"): value for name, value in vars(module).items() if isinstance(value, ReplayBuffer | HasReplay)
    }
    return {name: value if isinstance(value, ReplayBuffer) else value.buffer for name, value in found.items()}


def _has_state(name: str, value: object) -> bool:
    kinds = (int, float, np.number, torch.Generator, np.random.Generator, torch.optim.Optimizer, HasState)
    is_plain = isinstance(value, list | dict | set | deque) and _is_plain(value)
    return name not in _OF_MODULES and (is_plain or isinstance(value, kinds))


def _state_of(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, torch.optim.Optimizer):
        return value.state_dict()
    return value.state() if isinstance(value, HasState) else _in_plain_python(value)


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(part) for item in value.items() for part in item)
    if isinstance(value, list | tuple | set | deque):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def _in_plain_python(value: Any) -> Any:
    """A copy that any file holds: numbers of numpy become Python's, deques and sets become lists."""
    if isinstance(value, dict):
        return {_in_plain_python(key): _in_plain_python(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_in_plain_python, value))
    if isinstance(value, list | deque):
        return list(map(_in_plain_python, value))
    if isinstance(value, set):
        return sorted(map(_in_plain_python, value), key=repr)
    return value.item() if isinstance(value, np.generic) else value
