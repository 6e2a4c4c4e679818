"""What a module remembers in plain attributes: how it is saved, and what cannot be.

An attribute is *data* (numbers, texts, tensors, arrays and containers of them), which is copied; an object with a
state (an optimizer, a random generator, …), whose state is copied and put back into that object; a *constant*, which
nobody can change, so that nothing is saved; or it is refused.
"""

from __future__ import annotations

import dataclasses
import types
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from bbrl_exp.agents.constants import is_constant, is_same
from bbrl_exp.agents.object_state import NOTHING, PLAIN, HasState, HasStateDict, in_words, not_stored, own_state_at
from bbrl_exp.agents.saved_values import NotSavedError, of_array, of_tensor
from bbrl_exp.errors import BbrlExpError, ConfigurationError

TAG = "bbrl_exp"


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
            if saved is not NOTHING:
                found.saved[name] = saved
        return found

    def changed_since(self, start: AttributeState) -> str | None:
        """What a module that is built again would not have; None where there is nothing but data.

        Args:
            start: what there was when the run began.
        """
        for name in self.saved.keys() - start.names:
            self.saved[name] = {TAG: "new", "value": self.saved[name]}
        for path, kind in self.objects.items():
            if start.objects.get(path) is not kind:
                return f"{path} is a {kind.__name__} that was not there when the run began; make it in the constructor"
        for path, value in self.constants.items():
            if path not in start.constants or not is_same(value, start.constants[path]):
                return str(NotSavedError(f"{path} has become {in_words(value)}"))
        return None

    def _encoded(self, value: Any, path: str, known: set[int], around: frozenset[int]) -> Any:
        if type(value) in PLAIN:
            return value
        if id(value) in known:  # parameters, buffers and modules are saved as such; that they are here is not
            self.constants[path] = value
            return NOTHING
        if id(value) in around:  # a container in itself
            self.objects[path] = type(value)
            return NOTHING
        if isinstance(value, np.generic):
            return {TAG: "number", "value": of_array(np.asarray(value), path)}
        if isinstance(value, Tensor):
            return {TAG: "tensor", **of_tensor(value, path)}
        if isinstance(value, np.ndarray):
            return {TAG: "array", "value": of_array(value, path)}
        if (state := own_state_at(value, path)) is not NOTHING:
            self.objects[path] = type(value)
            method = "state_dict" if isinstance(value, HasStateDict) and not isinstance(value, HasState) else "state"
            if (problem := not_stored(state, f"{path}.{method}()")) is not None:
                raise NotSavedError(problem, "must be tensors, numbers, texts, lists, tuples, sets and dictionaries")
            return state if path.isidentifier() else {TAG: "object", "value": state}
        if isinstance(value, dict | list | tuple | set | frozenset | deque):
            return self._of_container(value, path, known, around | {id(value)})
        owner = getattr(value, "__self__", None)
        is_method = isinstance(value, types.MethodType | types.BuiltinMethodType)
        if is_method and not isinstance(owner, type | types.ModuleType | None):
            saved = self._encoded(owner, f"{path}.__self__", known, around)
            return NOTHING if saved is NOTHING else {TAG: "method", "value": saved}
        if not is_constant(value):
            raise NotSavedError(f"{path} is {in_words(value)}")
        self.constants[path] = value
        return NOTHING

    def _of_container(self, value: Any, path: str, known: set[int], around: frozenset[int]) -> Any:
        if type(value) not in (dict, list, tuple, set, frozenset, deque):
            self.objects[path] = type(value)  # a subclass: the contents are saved, the object is kept
        if isinstance(value, dict):
            for key in value:
                if not _is_key(key):
                    raise NotSavedError(f"{path} has {in_words(key)} as a key")
            parts = {key: self._encoded(part, f"{path}[{key!r}]", known, around) for key, part in value.items()}
            if parts and all(part is NOTHING for part in parts.values()):
                return NOTHING
            kept = {_plain_key(key): _or_kept(part) for key, part in parts.items()}
            return {TAG: "dict", "value": kept} if TAG in kept else kept
        if isinstance(value, set | frozenset):
            items = [part.item() if isinstance(part, np.generic) else part for part in value]
            if not all(map(_is_key, items)):
                raise NotSavedError(f"{path} is a {type(value).__name__} of other things than numbers and texts")
            return {TAG: "frozenset" if isinstance(value, frozenset) else "set", "value": sorted(items, key=repr)}
        items = [self._encoded(part, f"{path}[{index}]", known, around) for index, part in enumerate(value)]
        if items and all(item is NOTHING for item in items):
            return NOTHING
        items = list(map(_or_kept, items))
        if hasattr(value, "_fields"):
            return {TAG: "named", "value": tuple(items)}
        if isinstance(value, deque):
            return {TAG: "deque", "value": items, "maxlen": value.maxlen}
        return tuple(items) if isinstance(value, tuple) else items


OF_MODULES = frozenset(vars(nn.Module()))


def _or_kept(saved: Any) -> Any:
    return {TAG: "kept"} if saved is NOTHING else saved


def _is_key(key: object) -> bool:
    return type(key) in PLAIN or isinstance(key, np.generic) or (type(key) is tuple and all(map(_is_key, key)))


def _plain_key(key: Any) -> Any:
    return key.item() if isinstance(key, np.generic) else key


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
