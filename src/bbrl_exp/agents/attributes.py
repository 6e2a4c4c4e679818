"""What a module remembers in plain attributes: how it is saved and restored, and what cannot be saved.

An attribute is *data* (numbers, texts, tensors, arrays and containers of them), which is copied; an object with a
state (an optimizer, a random generator, …), whose state is copied and put back into that object; a *constant*, which
nobody can change, so that nothing is saved; or it is refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import logging
import pathlib
import random
import re
import types
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bbrl_exp.errors import BbrlExpError, ConfigurationError, described, ends_silently
from bbrl_exp.functional.schedules import Schedule

_TAG = "bbrl_exp"
_NOTHING = object()
_SIZE_OF_NOTHING = type("Nothing", (), {}).__basicsize__
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_CONSTANT: tuple[type[Any], ...] = (
    *(bool, int, float, complex, str, bytes),  # subclasses, such as members of an enumeration
    *(type, types.FunctionType, types.ModuleType, types.GenericAlias, types.UnionType, np.ufunc, np.dtype),
    *(enum.Enum, range, slice, pathlib.PurePath, re.Pattern, logging.Logger, decimal.Decimal, fractions.Fraction),
    *(datetime.date, datetime.time, datetime.timedelta, torch.device, torch.dtype, torch.layout, torch.Size),
    *(torch.memory_format, Schedule, types.BuiltinFunctionType, type(np.mean), functools._lru_cache_wrapper),
)


@runtime_checkable
class HasState(Protocol):
    """Something that reports what it remembers, as tensors and plain Python, and takes it over again."""

    def state(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""


@runtime_checkable
class _HasStateDict(Protocol):
    """An optimizer, a scheduler of learning rates or another object of torch."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Takes over what :meth:`state_dict` gave."""


# What a checkpoint gives back of an object's own state.
_STORED = (*_PLAIN, Tensor, nn.Parameter, torch.Size, torch.dtype, torch.device)
_GENERATORS: Mapping[type[Any], tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    torch.Generator: (lambda it: it.get_state(), lambda it, state: it.set_state(state.cpu())),
    np.random.Generator: (
        lambda it: _in_lists(it.bit_generator.state),
        lambda it, state: setattr(it.bit_generator, "state", state),
    ),
    random.Random: (lambda it: it.getstate(), lambda it, state: it.setstate(state)),
}


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


@dataclasses.dataclass
class AttributeState:
    """The attributes of a module in a form that a file holds, and where those are that no file holds.

    Attributes:
        saved: by name; without attributes of which nothing is to be saved.
        objects: the classes of the objects with a state, by path.
        constants: what nobody can change, by path.
        names: of all attributes.
    """

    names: frozenset[str] = frozenset()
    saved: dict[str, Any] = dataclasses.field(default_factory=dict)
    objects: dict[str, type[Any]] = dataclasses.field(default_factory=dict)
    constants: dict[str, object] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module, but: Collection[str], *, skips: bool = False) -> AttributeState:
        """That of the attributes of ``module`` which are neither ``but`` nor torch's own.

        What cannot be saved is left out if ``skips``.

        Raises:
            NotSavedError: there is something that cannot be saved.
        """
        found = cls(frozenset(vars(module)))
        known = {id(part) for part in (*module.modules(), *module.parameters(), *module.buffers())}
        for name, value in vars(module).items():
            if name in OF_MODULES or name in but:
                continue
            try:
                saved = found._encoded(value, name, known, frozenset())
            except NotSavedError:
                if not skips:
                    raise
                continue
            except RecursionError as error:
                raise BbrlExpError(f"{name} is nested too deeply to be saved") from error
            if saved is not _NOTHING:
                found.saved[name] = saved
        return found

    def changed_since(self, start: AttributeState) -> str | None:
        """What a module that is built again would not have; None where there is nothing but data.

        Args:
            start: what there was when the run began.
        """
        for name in self.saved.keys() - start.names:
            self.saved[name] = {_TAG: "new", "value": self.saved[name]}
        for path, kind in self.objects.items():
            if start.objects.get(path) is not kind:
                return f"{path} is a {kind.__name__} that was not there when the run began; make it in the constructor"
        for path, value in self.constants.items():
            if path not in start.constants or not _is_same(value, start.constants[path]):
                return str(NotSavedError(f"{path} has become {_in_words(value)}"))
        return None

    def _encoded(self, value: Any, path: str, known: set[int], around: frozenset[int]) -> Any:
        if type(value) in _PLAIN:
            return value
        if id(value) in known:  # parameters, buffers and modules are saved as such; that they are here is not
            self.constants[path] = value
            return _NOTHING
        if id(value) in around:  # a container in itself
            self.objects[path] = type(value)
            return _NOTHING
        if isinstance(value, np.generic):
            return {_TAG: "number", "value": _of_array(np.asarray(value), path)}
        if isinstance(value, Tensor):
            return {_TAG: "tensor", **_of_tensor(value, path)}
        if isinstance(value, np.ndarray):
            return {_TAG: "array", "value": _of_array(value, path)}
        if (state := _own_state_at(value, path)) is not _NOTHING:
            self.objects[path] = type(value)
            method = "state_dict" if isinstance(value, _HasStateDict) and not isinstance(value, HasState) else "state"
            if (problem := not_stored(state, f"{path}.{method}()")) is not None:
                raise NotSavedError(problem, "must be tensors, numbers, texts, lists, tuples, sets and dictionaries")
            return state if path.isidentifier() else {_TAG: "object", "value": state}
        if isinstance(value, dict | list | tuple | set | frozenset | deque):
            return self._of_container(value, path, known, around | {id(value)})
        owner = getattr(value, "__self__", None)
        is_method = isinstance(value, types.MethodType | types.BuiltinMethodType)
        if is_method and not isinstance(owner, type | types.ModuleType | None):
            saved = self._encoded(owner, f"{path}.__self__", known, around)
            return _NOTHING if saved is _NOTHING else {_TAG: "method", "value": saved}
        if not _is_constant(value):
            raise NotSavedError(f"{path} is {_in_words(value)}")
        self.constants[path] = value
        return _NOTHING

    def _of_container(self, value: Any, path: str, known: set[int], around: frozenset[int]) -> Any:
        if type(value) not in (dict, list, tuple, set, frozenset, deque):
            self.objects[path] = type(value)  # a subclass: the contents are saved, the object is kept
        if isinstance(value, dict):
            for key in value:
                if not _is_key(key):
                    raise NotSavedError(f"{path} has {_in_words(key)} as a key")
            parts = {key: self._encoded(part, f"{path}[{key!r}]", known, around) for key, part in value.items()}
            if parts and all(part is _NOTHING for part in parts.values()):
                return _NOTHING
            kept = {_plain_key(key): _or_kept(part) for key, part in parts.items()}
            return {_TAG: "dict", "value": kept} if _TAG in kept else kept
        if isinstance(value, set | frozenset):
            items = [part.item() if isinstance(part, np.generic) else part for part in value]
            if not all(map(_is_key, items)):
                raise NotSavedError(f"{path} is a {type(value).__name__} of other things than numbers and texts")
            return {_TAG: "frozenset" if isinstance(value, frozenset) else "set", "value": sorted(items, key=repr)}
        items = [self._encoded(part, f"{path}[{index}]", known, around) for index, part in enumerate(value)]
        if items and all(item is _NOTHING for item in items):
            return _NOTHING
        items = list(map(_or_kept, items))
        if hasattr(value, "_fields"):
            return {_TAG: "named", "value": tuple(items)}
        if isinstance(value, deque):
            return {_TAG: "deque", "value": items, "maxlen": value.maxlen}
        return tuple(items) if isinstance(value, tuple) else items


OF_MODULES = frozenset(vars(nn.Module()))


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
        elif adds or (isinstance(value, dict) and value.get(_TAG) == "new"):
            setattr(module, name, _decoded(value if adds else value["value"], None))
        elif not isinstance(value, int | float):
            raise AttributeError(f"{type(module).__name__} has no attribute '{name}'")


def _decoded(saved: Any, current: Any) -> Any:
    """The value that was saved, put into the ``current`` object where that can take it over."""
    tag = saved.get(_TAG) if isinstance(saved, dict) else None
    if tag is None:
        if _load_own_state(current, saved):
            return current
        if isinstance(current, set | frozenset | deque) and isinstance(saved, list):  # as version 0.1.0 saved them
            tag = type(current).__name__
            saved = {"value": saved, "maxlen": getattr(current, "maxlen", None)}
    content = saved if tag is None else saved.get("value")
    if tag == "kept":
        return current
    if tag == "object":
        _load_own_state(current, content)
        return current
    if tag == "method":
        _decoded(content, current.__self__)
        return current
    if tag == "number":
        return _array_of(content)[()]
    if tag == "array":
        return _put_in(current, _array_of(content))
    if tag == "tensor":
        return _put_in_tensor(current, saved)
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


def _own_state(value: Any) -> Any:
    """What an object remembers that can be put back into it; ``_NOTHING`` for other things."""
    if isinstance(value, type):
        return _NOTHING
    for kind, (get, _) in _GENERATORS.items():
        if isinstance(value, kind):
            return get(value)
    if isinstance(value, HasState):
        return value.state()
    return value.state_dict() if isinstance(value, _HasStateDict) else _NOTHING


def _own_state_at(value: Any, path: str) -> Any:
    """See :func:`_own_state`.

    Raises:
        BbrlExpError: the object's method raises.
    """
    try:
        return _own_state(value)
    except RecursionError:  # where the containers around it are too deep
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not ends_silently(error):
            raise
        raise BbrlExpError(f"{path} is {_in_words(value)}, whose state cannot be read: {described(error)}") from error


def _load_own_state(value: Any, state: Any) -> bool:
    """Gives an object what :func:`_own_state` was; False for one without a state."""
    if isinstance(value, type):
        return False
    for kind, (_, put) in _GENERATORS.items():
        if isinstance(value, kind):
            put(value, state)
            return True
    if isinstance(value, HasState):
        value.load_state(state)
    elif isinstance(value, _HasStateDict):
        value.load_state_dict(state)
    else:
        return False
    return True


def not_stored(state: Any, path: str, around: frozenset[int] = frozenset()) -> str | None:
    """The first part of an object's state that no checkpoint gives back, ``<path> is a deque``; None where all do."""
    if type(state) in _STORED:
        return None
    if id(state) in around:
        return f"{path} is {_in_words(state)} in itself"
    inside = around | {id(state)}
    if type(state) in (dict, OrderedDict, Counter):
        for key in state:
            if not_stored(key, path, inside) is not None:
                return f"{path} has {_in_words(key)} as a key"
        parts = state.items()
    elif type(state) in (list, tuple, set):
        parts = enumerate(state)
    else:
        return f"{path} is {_in_words(state)}"
    found = (not_stored(part, f"{path}[{key!r}]", inside) for key, part in parts)
    return next((problem for problem in found if problem is not None), None)


def _in_lists(state: Any) -> Any:
    """The state of a generator, in which some kinds have arrays, as plain Python."""
    if isinstance(state, dict):
        return {key: _in_lists(part) for key, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _or_kept(saved: Any) -> Any:
    return {_TAG: "kept"} if saved is _NOTHING else saved


def _is_key(key: object) -> bool:
    return type(key) in _PLAIN or isinstance(key, np.generic) or (type(key) is tuple and all(map(_is_key, key)))


def _plain_key(key: Any) -> Any:
    return key.item() if isinstance(key, np.generic) else key


def _of_array(value: np.ndarray[Any, Any], path: str) -> dict[str, Any]:
    if value.dtype.hasobject:
        raise NotSavedError(f"{path} is an array of Python objects")
    numbers = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy())
    return {
        "dtype": value.dtype.str if value.dtype.fields is None else value.dtype.descr,
        "shape": value.shape,
        "bytes": numbers,
    }


def _array_of(saved: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    array = np.frombuffer(saved["bytes"].numpy().tobytes(), np.dtype(saved["dtype"]))
    return array.reshape(saved["shape"]).copy()


def _put_in(current: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not isinstance(current, np.ndarray) or (current.shape, current.dtype) != (array.shape, array.dtype):
        return array
    if not current.flags.writeable:
        return array
    current[...] = array
    return current


def _of_tensor(value: Tensor, path: str) -> dict[str, Any]:
    """Bit by bit: what is no parameter may hold NaN and infinity, which a checkpoint refuses elsewhere."""
    if value.layout is not torch.strided or value.is_meta or value.is_quantized or is_lazy(value):
        raise NotSavedError(f"{path} is a tensor that is sparse, quantized or has no numbers")
    numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).clone()
    facts = {"dtype": str(value.dtype).removeprefix("torch."), "shape": tuple(value.shape), "device": str(value.device)}
    return {**facts, "bytes": numbers, "requires_grad": value.requires_grad and value.is_leaf}


def _put_in_tensor(current: Any, saved: Mapping[str, Any]) -> Tensor:
    restored = saved["bytes"].cpu().view(getattr(torch, saved["dtype"])).reshape(saved["shape"])
    if isinstance(current, Tensor) and (current.shape, current.dtype) == (restored.shape, restored.dtype):
        with torch.no_grad():
            current.copy_(restored)
        return current
    device = current.device if isinstance(current, Tensor) else saved["device"]
    moved: Tensor = restored.clone().to(device)
    return moved.requires_grad_(saved["requires_grad"])


def _is_constant(value: Any) -> bool:
    """Whether nobody can change a value: an immutable one, or an object without attributes."""
    if type(value) in _PLAIN or isinstance(value, _CONSTANT):
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
    return isinstance(value, Tensor | np.ndarray | np.generic) or _is_constant(value)


def _is_same(value: Any, other: Any) -> bool:
    try:
        return value is other or bool(value == other)
    except Exception:
        return False


def _in_words(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def hidden_parts(module: nn.Module, kind: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of ``module`` of a kind, and the parts of that kind in containers, with their paths."""
    for name, value in vars(module).items():
        if name not in OF_MODULES:
            try:
                yield from _parts(value, name, kind, frozenset())
            except RecursionError as error:
                raise ConfigurationError(f"{name} is nested too deeply to be saved") from error


def _parts(value: Any, path: str, kind: Any, around: frozenset[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, kind):
        yield path, value
    elif isinstance(value, dict | list | tuple | deque) and id(value) not in around:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _parts(part, f"{path}[{key}]", kind, around | {id(value)})
