"""What the nodes of an agent can be given: each argument as the command line writes it, and what it is."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docstring_parser
from omegaconf import OmegaConf

from bbrl_exp.config.nodes import parameters_of
from bbrl_exp.config.schema import AgentSettings
from bbrl_exp.config.targets import find_target

_WORDS = {"None": "null", "True": "true", "False": "false"}


def arguments_of_agent(file: Path) -> str:
    """The agent's own keys, then a block of lines a node: its key and class, what that does, and its arguments.

    An argument in the file is written as it is there, ``agent.learner.discount=0.99``; one that is not,
    with the ``+`` that adds it and the class's default, ``+agent.learner.target_kl=null``.

    Raises:
        ConfigurationError: a target of the file is refused.
    """
    contents = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    assert isinstance(contents, dict)
    texts = {f"agent.{key.name}": key.metadata["help"] for key in dataclasses.fields(AgentSettings)}
    own = {f"agent.{name!s}": value for name, value in contents.items() if name not in ("members", "learner")}
    lines = _table({f"{key}={_written(value)}": texts.get(key, "") for key, value in own.items()})
    return "\n\n".join(["\n".join(lines), *(_block(key, node) for key, node in _nodes(contents, "agent"))])


def _nodes(node: object, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All nodes with a target, outer ones first."""
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        yield key, node
    for name, child in node.items():
        yield from _nodes(child, f"{key}.{name}")


def _block(key: str, node: Mapping[str, Any]) -> str:
    target = find_target(node["_target_"], f"{key}._target_")
    docstring = docstring_parser.parse(inspect.getdoc(target) or "")
    texts = {
        parameter.arg_name: parameter.description or ""
        for kind in (*filter(dataclasses.is_dataclass, reversed(target.__mro__)), target)  # fields may be inherited
        for parameter in docstring_parser.parse_from_object(kind).params
    }
    arguments = {written: texts.get(name, "") for name, written in _arguments(target, key, node).items()}
    heading = f"{key}: {target.__module__}.{target.__name__}"
    return "\n".join([heading, _plain(docstring.short_description or ""), *_table(arguments)])


def _table(texts: Mapping[str, str]) -> list[str]:
    """A line an argument: as it is written, and what it is."""
    width = max(map(len, texts), default=0)
    return [f"  {argument:<{width}}  {_plain(text)}".rstrip() for argument, text in texts.items()]


def _arguments(target: type[Any], key: str, node: Mapping[str, Any]) -> dict[str, str]:
    """The arguments by name, in the class's order, but for what no configuration gives and for nodes.

    By an agent's name others find it and what it writes, so that it is left as it is.
    """
    parameters = inspect.signature(target).parameters
    found = {}
    for name in parameters_of(target):
        if name == "name":
            continue
        if name in node:
            if not isinstance(node[name], Mapping):
                found[name] = f"{key}.{name}={_written(node[name])}"
        elif parameters[name].default is not inspect.Parameter.empty:
            found[name] = f"+{key}.{name}={_written(parameters[name].default)}"
    return found


def _plain(text: str) -> str:
    """A docstring's words on one line, without its marks, and with the values that YAML has."""
    words = re.sub(r":\w+:`([^`]+)`", r"\1", " ".join(text.split())).replace("``", "")
    return re.sub(r"\b(None|True|False)\b", lambda found: _WORDS[found[0]], words)


def _written(value: object) -> str:
    """A value as the command line writes it."""
    if isinstance(value, str):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value, separators=(",", ":"), default=str)
