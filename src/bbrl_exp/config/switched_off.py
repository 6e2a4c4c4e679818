"""Members, wrappers and sinks that a configuration switches off: ``null`` in the place of their node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bbrl_exp.config.nodes import ORDER_KEYS
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config import MAPPINGS_OF_NODES

_GROUPS_WITH_NODES = ("agent", "env", "tracking")


def is_of_nodes(key: str) -> bool:
    """Whether the mapping at ``key`` has a node for each name."""
    return key.rpartition(".")[2] in MAPPINGS_OF_NODES


def switched_off(config: Mapping[str, Any], key: str = "") -> Iterator[str]:
    """The dotted keys of what is switched off.

    Args:
        config: the configuration, or a part of it.
        key: where that part is; empty for the root.
    """
    for name, child in config.items():
        if isinstance(child, Mapping):
            inner = f"{key}.{name}" if key else str(name)
            if _holds_nodes(config, key, name):
                yield from (f"{inner}.{each}" for each, node in child.items() if node is None)
            yield from switched_off(child, inner)


def without_switched_off(config: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """The configuration as if what is switched off had never been in it.

    Raises:
        ConfigurationError: a member that remains is placed ``after`` or ``before`` one that is switched off.
    """
    found: dict[str, Any] = {}
    for name, child in config.items():
        found[name] = child
        if isinstance(child, Mapping):
            inner = f"{key}.{name}" if key else str(name)
            if _holds_nodes(config, key, name):
                _check_order(child, inner)
                child = {each: node for each, node in child.items() if node is not None}
            found[name] = without_switched_off(child, inner)
    return found


def _holds_nodes(parent: Mapping[str, Any], key: str, name: str) -> bool:
    """Whether a mapping is one of nodes, and not an argument that happens to have such a name."""
    return name in MAPPINGS_OF_NODES and ("_target_" in parent or key in _GROUPS_WITH_NODES)


def _check_order(nodes: Mapping[str, Any], key: str) -> None:
    for name, node in nodes.items():
        for word in ORDER_KEYS:
            anchor = node.get(word) if isinstance(node, Mapping) else None
            if isinstance(anchor, str) and anchor in nodes and nodes[anchor] is None:
                there = ", ".join(other for other in nodes if nodes[other] is not None and other != name)
                raise ConfigurationError(
                    f"key '{key}.{name}.{word}' = '{anchor}': that member is switched off (null); members: {there}"
                )
