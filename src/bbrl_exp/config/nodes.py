"""Nodes of a configuration: a class by its ``_target_`` and its arguments by name; how they are checked and built."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from bbrl_exp.arguments import BuiltLater, NodeOf, annotations_of, former_argument, marks_of
from bbrl_exp.config.targets import NodeKind, check_kind, find_target, is_wrapper
from bbrl_exp.errors import BbrlExpError, ConfigurationError, described, did_you_mean, ends_silently
from bbrl_exp.settings import shown
from bbrl_exp.text import one_line

ORDER_KEYS = ("after", "before")
_HYDRA_KEYS = ("_partial_", "_args_", "_recursive_", "_convert_")
_KINDS: Mapping[object, NodeKind] = {"members": "member", "wrappers": "wrapper"}


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of a configuration, wherever it is.

    Attributes:
        key: dotted.
        kind: what it must be.
        owner: the node that it is an argument of, and the argument's name; the class may say which kind it must be.
        content: what is written there; without a ``_target_`` where a wrapper, a learner or a sink lacks it.
    """

    key: str
    kind: NodeKind
    content: Mapping[str, Any]
    owner: tuple[Node, str] | None = None

    def check(self) -> None:
        """Finds the target and compares the keys with its signature; builds nothing.

        Raises:
            ConfigurationError: the target or a key is refused.
        """
        if "_target_" not in self.content:
            raise ConfigurationError(f"key '{self.key}' has no _target_, and a {self.kind} needs one")
        target = find_target(self.content["_target_"], f"{self.key}._target_")
        mark = self._mark()
        kind = self.kind if mark is None else cast("NodeKind", mark.kind)
        check_kind(target, kind, f"key '{self.key}._target_' = {shown(self.content['_target_'])}")
        given = mark.given if isinstance(mark, BuiltLater) else ()
        if isinstance(mark, BuiltLater):
            self._check_given(mark)
        _check_keys(target, self.content, self.key, also=ORDER_KEYS if self.kind == "member" else (), given=given)

    def _mark(self) -> NodeOf | None:
        """What the class that it is an argument of says of it."""
        if self.owner is None:
            return None
        node, name = self.owner
        return marks_of(find_target(node.content["_target_"], f"{node.key}._target_"), NodeOf).get(name)

    def _check_given(self, mark: BuiltLater) -> None:
        for name in mark.given:
            if name in self.content:
                assert self.owner is not None
                owner = self.owner[0]
                filling = find_target(owner.content["_target_"], f"{owner.key}._target_").__name__
                keys = " and ".join(f"{owner.key}.{option}" for option in mark.instead)
                fix = f"set {keys} instead" if name != mark.given[0] and keys else "remove it"
                raise ConfigurationError(f"key '{self.key}.{name}': {filling} fills it in; {fix}")


def nodes_below(
    config: object, key: str, kind: NodeKind = "argument", owner: tuple[Node, str] | None = None
) -> Iterator[Node]:
    """All nodes of a resolved configuration, outer ones first."""
    has_target = _is_node(config)
    node = Node(key, kind, cast("Mapping[str, Any]", config) if has_target else {}, owner)
    if has_target or kind in ("wrapper", "learner", "sink"):
        yield node
    for name, child in _children(config):
        if name in _KINDS and isinstance(child, Mapping | list):
            for inner, grandchild in _children(child):
                yield from nodes_below(grandchild, f"{key}.{name}.{inner}", _KINDS[name])
        else:
            yield from nodes_below(child, f"{key}.{name}", owner=(node, str(name)) if has_target else None)


def _children(node: object) -> Iterable[tuple[object, object]]:
    return node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()


def _check_keys(
    target: type[Any], node: Mapping[str, Any], key: str, also: Collection[str], given: Collection[str] = ()
) -> None:
    """Compares the keys of ``node`` with the signature of ``target``, and plain values with its annotations.

    ``also`` are keys that are no parameters, ``given`` parameters that are no keys.
    """
    parameters = inspect.signature(target).parameters
    known = [name for name, parameter in parameters.items() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    hints, marked = annotations_of(target), marks_of(target, NodeOf)
    for name, value in node.items():
        if name in _HYDRA_KEYS:
            raise ConfigurationError(f"key '{key}.{name}' is not supported: write arguments by name, values in place")
        if name in ("_target_", *also):
            continue
        if (instead := former_argument(target, str(name))) is not None:
            raise ConfigurationError(f"key '{key}.{name}' = {shown(value)}: {instead}")
        if name not in known and not open_ended:
            near = did_you_mean(str(name), [other for other in known if other not in given]) or ";"
            named = ", ".join(other for other in parameters_of(target) if other not in given) or "none"
            raise ConfigurationError(f"key '{key}': {target.__name__} has no parameter '{name}'{near} known: {named}")
        if name in hints and name in parameters and not (name in marked and _is_node(value)):
            many = parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            items = value if many and isinstance(value, list) else [value]
            if (many and not isinstance(value, list)) or not all(_accepts(hints[name], item) for item in items):
                kind = f"a list, each {_in_words(hints[name])}" if many else _in_words(hints[name])
                scheduled = [other for other, mark in marked.items() if mark.kind == "schedule"]
                if name in scheduled:
                    kind += " or the node of a schedule"
                elif scheduled and _is_node(value):
                    kind += f"; a schedule can be given for {', '.join(scheduled)}"
                raise ConfigurationError(f"key '{key}.{name}' = {shown(value)}: must be {kind} ({target.__name__})")


def _is_node(value: object) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def parameters_of(target: type[Any]) -> list[str]:
    """The names of what a configuration may hand to a class; ``env_spec`` is filled in."""
    parameters = inspect.signature(target).parameters.values()
    named = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return [name for name in named if name != "env_spec"]


def _in_words(hint: object) -> str:
    """What an annotation allows, as a user writes it in YAML."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_in_words(argument) for argument in arguments)
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if _is_object(hint):
        return "a node with a _target_"
    if typing.get_origin(hint) is Mapping:
        return "a mapping"
    if _is_sequence(hint):
        return f"a list, each {_in_words(arguments[0])}" if arguments else "a list"
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return words.get(hint, inspect.formatannotation(hint)) if isinstance(hint, type) else str(hint)


def _accepts(hint: object, value: object) -> bool:
    """Whether a plain ``value`` fits the annotation; annotations of other kinds are left to the class itself."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(argument, value) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if _is_node(value):
        return hint not in (int, float, bool, str, type(None))
    if origin is Mapping:
        return isinstance(value, Mapping)
    if hint in (int, float):
        return not isinstance(value, bool) and isinstance(value, int if hint is int else (int, float))
    if hint in (bool, str, type(None)):
        return isinstance(value, cast("type[Any]", hint))
    if _is_sequence(hint):
        inner = [argument for argument in arguments if argument is not Ellipsis]
        return isinstance(value, list | Mapping) and (
            isinstance(value, Mapping) or len(inner) != 1 or all(_accepts(inner[0], item) for item in value)
        )
    return not _is_object(hint)


def _is_object(hint: object) -> bool:
    """Whether an annotation asks for what only a node can describe: a module of torch, or something to call or ask."""
    if typing.get_origin(hint) is Callable:
        return True
    is_module = isinstance(hint, type) and any(base.__module__ == "torch.nn.modules.module" for base in hint.__mro__)
    return is_module or getattr(hint, "_is_protocol", False)


def _is_sequence(hint: object) -> bool:
    """Whether an annotation asks for a list of things."""
    return typing.get_origin(hint) in (list, tuple, Sequence)


def _as_annotated(hint: object, value: object) -> object:
    """A list as the tuple or the array that a parameter wants instead; YAML has neither."""
    if not isinstance(value, list):
        return value
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = [typing.get_origin(kind) or kind for kind in (typing.get_args(hint) if is_union else (hint,))]
    if list in kinds or Sequence in kinds:
        return value
    if tuple in kinds:
        return tuple(value)
    if any(isinstance(kind, type) and (kind.__module__, kind.__name__) == ("numpy", "ndarray") for kind in kinds):
        import numpy as np

        return np.asarray(value, np.float32)
    return value


def build(node: object, key: str, filled: Callable[[type[Any]], Mapping[str, Any]], mark: NodeOf | None = None) -> Any:
    """Builds what ``node`` describes: nodes with a ``_target_`` become objects, mappings and lists keep their shape.

    Where a class wants a sequence, a mapping gives its values: Hydra can add to a mapping from the command line, not to
    a list.

    Args:
        node: resolved and checked configuration.
        key: its key, for messages.
        filled: the arguments that a class gets without any YAML, by its class.
        mark: what the class that it is an argument of says of it.

    Raises:
        ConfigurationError: a required argument is missing, or the class refuses its arguments.
    """
    if isinstance(node, list):
        return [build(child, f"{key}.{index}", filled) for index, child in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    if "_target_" not in node:
        return {name: build(child, f"{key}.{name}", filled) for name, child in node.items()}
    target = find_target(node["_target_"], f"{key}._target_")
    arguments = dict(filled(target))
    hints, marked = annotations_of(target), marks_of(target, NodeOf)
    for name, child in node.items():
        if name != "_target_":
            value = build(child, f"{key}.{name}", filled, marked.get(name))
            is_named_list = isinstance(child, Mapping) and "_target_" not in child and _is_sequence(hints.get(name))
            arguments[name] = list(value.values()) if is_named_list else _as_annotated(hints.get(name), value)
    given = ("env",) if is_wrapper(target) else mark.given if isinstance(mark, BuiltLater) else None
    return _construct(target, arguments, key, [name for name in node if name in arguments], given)


@dataclasses.dataclass(frozen=True)
class CalledLater:
    """A node of which its owner gives some arguments; it is called with them.

    Raises:
        ConfigurationError: when it is called, where the class refuses its arguments; the message names the key.
    """

    target: type[Any]
    arguments: Mapping[str, Any]
    key: str

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the class, for an owner that asks whether it takes an argument."""
        return inspect.signature(self.target)

    def __call__(self, /, *first: object, **given: object) -> Any:
        with refusals(self.target, self.arguments, self.key):
            return self.target(*first, **self.arguments, **given)


def _construct(
    target: type[Any], arguments: Mapping[str, Any], key: str, written: Collection[str], given: Collection[str] | None
) -> Any:
    """Calls ``target``, unless its owner gives some arguments, such as a wrapper's environment: those come later.

    Raises:
        ConfigurationError: a required argument is missing, or the class refuses its arguments.
    """
    parameters = inspect.signature(target).parameters.values()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [each.name for each in parameters if each.kind in by_name and each.default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in arguments and name not in (given or ())]
    if missing:
        raise ConfigurationError(f"key '{key}': {target.__name__} needs {', '.join(missing)}")
    if given is not None:
        return CalledLater(target, arguments, key)
    # The list for a parameter *names is given under its name.
    many = next((each.name for each in parameters if each.kind is inspect.Parameter.VAR_POSITIONAL), None)
    with refusals(target, written, key):
        try:
            named = {name: value for name, value in arguments.items() if name != many}
            return target(*arguments.get(many or "", ()), **named)
        except (AttributeError, TypeError) as error:
            if (misfit := _argument_of_another_kind(target, arguments)) is not None:
                raise ConfigurationError(misfit) from error
            raise


def _argument_of_another_kind(target: type[Any], arguments: Mapping[str, Any]) -> str | None:
    """What a class needs where an argument is of another class than it is annotated with; None where all fit."""
    hints = annotations_of(target)
    for name, value in arguments.items():
        kind = hints.get(name)
        if not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
            continue
        if not isinstance(value, (int, float) if kind is float else kind):
            return f"{name}: {target.__name__} needs a {kind.__name__}, not a {type(value).__name__}"
    return None


@contextlib.contextmanager
def refusals(target: type[Any], names: Collection[str], key: str) -> Iterator[None]:
    """Turns what ``target`` raises into an error that names the key: of an argument, if it begins with one's name."""
    try:
        yield
    except ConfigurationError as error:
        raise _at_argument(error, target, names, key) from error
    except BbrlExpError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not ends_silently(error):
            raise
        reason = one_line(error) if isinstance(error, Exception) else described(error)
        raise ConfigurationError(f"key '{key}': {target.__name__} refuses its arguments: {reason}") from error


def _at_argument(error: ConfigurationError, target: type[Any], names: Collection[str], key: str) -> ConfigurationError:
    if str(error).startswith("key '"):
        return error
    # An argument's name, or that of an argument's argument: discount=…, critic.dropout=…
    match = re.match(r"((\w+)[\w.]*)(=|: | (?='))", str(error))
    if match is None or match[2] not in names:
        return type(error)(f"key '{key}': {target.__name__}: {error}")
    return type(error)(f"key '{key}.{match[1]}'{': ' if match[3] == ': ' else ' = '}{str(error)[match.end() :]}")
