"""What the nodes of an agent can be given: each argument as the command line writes it, and what it is."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docstring_parser

from bbrl_exp.config.compose import Composer, written
from bbrl_exp.config.inherited import without_inherited
from bbrl_exp.config.nodes import parameters_of
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.schema import AgentSettings, MemorySettings
from bbrl_exp.config.switched_off import switched_off
from bbrl_exp.config.targets import find_target

_MEMORY = "What it remembers by; memory=<option> chooses another one (bbrl-exp list memory)."
_WORDS = {"None": "null", "True": "true", "False": "false"}


@dataclass(frozen=True)
class NodeArguments:
    """What a node of an agent can be given.

    Attributes:
        key: where the node is, such as ``agent.learner``; ``agent`` for the agent's own keys.
        target: the path of its class; empty for the agent's own keys.
        summary: what the class does, in one line.
        texts: each argument as the command line writes it, ``agent.learner.discount=0.99``, and what it is.
    """

    key: str
    target: str
    summary: str
    texts: dict[str, str]


def composed_agent(option: str, extra_dir: Path | None = None) -> dict[str, Any]:
    """What an option of the group ``agent`` states, those that it extends included, and its memory where it has one.

    Interpolations are as they are written; the mapping has the keys ``agent`` and ``memory``.

    Args:
        option: its name.
        extra_dir: ``--config-dir``.

    Raises:
        ConfigurationError: it cannot be composed.
    """
    with Composer(default_config_dir(), extra_dir=extra_dir) as composer:
        config, _ = without_inherited(composer.compose([f"agent={option}"]))
    return {name: value for name, value in written(config).items() if name in ("agent", "memory")}


def arguments_of_agent(stated: Mapping[str, Any]) -> str:
    """The agent's own keys, then a block of lines per node: its key and class, what that does, and its arguments.

    An argument that is stated is written as it is, ``agent.learner.discount=0.99``; one that is not,
    with the ``+`` that adds it and the class's default, ``+agent.learner.target_kl=null``.

    Args:
        stated: what is stated, as :func:`composed_agent` gives it.

    Raises:
        ConfigurationError: a target is refused.
    """
    own, *nodes = nodes_of_agent(stated)
    heads = (": ".join(filter(None, (node.key, node.target))) for node in nodes)
    texts = (_table(node.texts) for node in nodes)
    blocks = (f"{head}\n{node.summary}\n{text}".rstrip() for head, node, text in zip(heads, nodes, texts, strict=True))
    return "\n\n".join([_table(own.texts), *blocks])


def nodes_of_agent(stated: Mapping[str, Any]) -> list[NodeArguments]:
    """The agent's own keys, then its nodes, outer ones first, and last its memory.

    Args:
        stated: what is stated, as :func:`composed_agent` gives it.

    Raises:
        ConfigurationError: a target is refused.
    """
    agent, memory = stated["agent"], stated.get("memory")
    texts = {f"agent.{key.name}": key.metadata["help"] for key in dataclasses.fields(AgentSettings)}
    own = {f"agent.{name!s}": value for name, value in agent.items() if name not in ("members", "learner")}
    texts |= dict.fromkeys(switched_off(agent, "agent"), "switched off")
    own |= dict.fromkeys(switched_off(agent, "agent"))
    lines = {f"{key}={_written(value)}": texts.get(key, "") for key, value in own.items()}
    found = [NodeArguments("agent", "", "", lines), *(_described(key, node) for key, node in _nodes(agent, "agent"))]
    if memory is not None:
        texts = {key.name: key.metadata["help"] for key in dataclasses.fields(MemorySettings)}
        own = {name: value for name, value in memory.items() if not isinstance(value, Mapping)}
        lines = {f"memory.{name}={_written(value)}": texts.get(name, "") for name, value in own.items()}
        found += [
            NodeArguments(
                "memory",
                "",
                _MEMORY,
                lines,
            )
        ]
        found += [_described(key, node) for key, node in _nodes(memory, "memory")]
    return found


def _nodes(node: object, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All nodes with a target, outer ones first."""
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        yield key, node
    for name, child in node.items():
        yield from _nodes(child, f"{key}.{name}")


def _described(key: str, node: Mapping[str, Any]) -> NodeArguments:
    target = find_target(node["_target_"], f"{key}._target_")
    docstring = docstring_parser.parse(inspect.getdoc(target) or "")
    texts = {
        parameter.arg_name: parameter.description or ""
        for kind in (*filter(dataclasses.is_dataclass, reversed(target.__mro__)), target)  # fields may be inherited
        for parameter in sorted(docstring_parser.parse_from_object(kind).params, key=lambda one: "param" in one.args)
    }  # where an argument and an attribute share a name, the words of the argument count
    arguments = {written: _plain(texts.get(name, "")) for name, written in _arguments(target, key, node).items()}
    path = f"{target.__module__}.{target.__name__}"
    return NodeArguments(key, path, _plain(docstring.short_description or ""), arguments)


def _table(texts: Mapping[str, str]) -> str:
    """A line an argument: as it is written, and what it is."""
    width = max(map(len, texts), default=0)
    return "\n".join(f"  {argument:<{width}}  {text}".rstrip() for argument, text in texts.items())


def _arguments(target: type[Any], key: str, node: Mapping[str, Any]) -> dict[str, str]:
    """The arguments by name, in the class's order, but for what no configuration gives and for nodes.

    By an agent's name others find it and what it writes, so that it is left as it is; generators are filled in.
    """
    parameters = inspect.signature(target).parameters
    found = {}
    for name in parameters_of(target):
        if name in ("name", "generator"):
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
