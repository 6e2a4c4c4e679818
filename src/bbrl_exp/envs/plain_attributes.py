"""The attributes of an object whose state is numbers, arrays and generators of numpy: saved, and put into another one.

What never changes (spaces, specs, enumerations, classes, functions) is left out. The random numbers of a space are not
part of the state: nothing that is repeatable draws from them.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec as RegisteredEnv

from bbrl_exp.errors import BbrlExpError

_CONSTANTS = (
    gymnasium.Space,
    RegisteredEnv,
    enum.Enum,
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    np.dtype,
)
_BIT_GENERATORS = {name: getattr(np.random, name) for name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")}


class NotPlainError(BbrlExpError):
    """An attribute that cannot be saved; the message begins with its name."""


def save_attributes(owner: object) -> dict[str, Any]:
    """The attributes of ``owner``, as arrays and plain Python; copies.

    Raises:
        NotPlainError: one is neither a number, a text, None, an array of numbers, a numpy Generator, a list, tuple or
            dict of these nor constant, or two of them share memory.
    """
    saver = _Saver()
    return {name: saver.save(value, name) for name, value in vars(owner).items()}


def load_attributes(owner: object, state: Mapping[str, Any]) -> None:
    """Gives ``owner`` the attributes that :func:`save_attributes` gave.

    Raises:
        NotPlainError: a constant that ``owner`` does not have.
    """
    attributes = vars(owner)
    loader = _Loader()
    values = {}
    for name, saved in state.items():
        if saved[0] != "constant":
            values[name] = loader.load(saved, name)
        elif name in attributes:
            values[name] = attributes[name]
        else:
            raise NotPlainError(f"{name}: made while the environment was played")
    attributes.clear()
    attributes.update(values)


class _Saver:
    def __init__(self) -> None:
        self._known: dict[int, tuple[str, Any]] = {}

    def save(self, value: Any, path: str) -> tuple[str, Any]:
        if value is None or type(value) in (bool, int, float, str):
            return "plain", value
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return "scalar", np.array(value)
        if isinstance(value, _CONSTANTS):
            if "." in path:
                raise NotPlainError(f"{path}: a {type(value).__name__} inside a container")
            return "constant", None
        if id(value) in self._known:
            return "same", self._known[id(value)][0]
        if type(value) is np.ndarray and value.dtype.kind in "biuf":
            for other_path, other in self._known.values():
                if isinstance(other, np.ndarray) and np.may_share_memory(value, other):
                    raise NotPlainError(f"{path}: shares its memory with {other_path}")
            self._known[id(value)] = path, value
            return "array", value.copy(order="K")
        if isinstance(value, np.random.Generator) and type(value.bit_generator).__name__ in _BIT_GENERATORS:
            self._known[id(value)] = path, value
            return "generator", dict(value.bit_generator.state)
        if type(value) in (list, tuple):
            self._known[id(value)] = path, value
            return type(value).__name__, [self.save(item, f"{path}.{index}") for index, item in enumerate(value)]
        if type(value) is dict and all(type(key) in (str, int) for key in value):
            self._known[id(value)] = path, value
            return "dict", {key: self.save(item, f"{path}.{key}") for key, item in value.items()}
        raise NotPlainError(f"{path}: a {type(value).__name__}")


class _Loader:
    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def load(self, saved: tuple[str, Any], path: str) -> Any:
        kind, content = saved
        if kind == "same":
            return self._known[content]
        value = self._value(kind, content, path)
        self._known[path] = value
        return value

    def _value(self, kind: str, content: Any, path: str) -> Any:
        match kind:
            case "plain":
                return content
            case "scalar":
                return content[()]
            case "array":
                return content.copy(order="K")
            case "generator":
                bit_generator = _BIT_GENERATORS[content["bit_generator"]]()
                bit_generator.state = content
                return np.random.Generator(bit_generator)
            case "dict":
                return {key: self.load(item, f"{path}.{key}") for key, item in content.items()}
        items = [self.load(item, f"{path}.{index}") for index, item in enumerate(content)]
        return items if kind == "list" else tuple(items)
