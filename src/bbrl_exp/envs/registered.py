"""Environments that the user's program has registered, for processes that have not imported what it has."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec as RegisteredEnv
from gymnasium.envs.registration import load_env_creator


def registered(ids: Iterable[str]) -> dict[str, RegisteredEnv]:
    """The registry's entries of the ``ids`` that it knows; cloudpickle carries them to another process."""
    entries = {env_id: gymnasium.registry[env_id] for env_id in ids if env_id in gymnasium.registry}
    return {env_id: _without_main(entry) for env_id, entry in entries.items()}


def registered_in(node: object) -> dict[str, RegisteredEnv]:
    """The entries of all ids that the nodes of a configuration give as ``env``."""
    if not isinstance(node, Mapping):
        return {}
    found = registered([node["env"]]) if isinstance(node.get("env"), str) else {}
    for child in node.values():
        found |= registered_in(child)
    return found


def register_missing(entries: Mapping[str, RegisteredEnv]) -> None:
    """Registers the ``entries`` that this process does not know."""
    for env_id, entry in entries.items():
        if isinstance(entry.entry_point, str):
            with contextlib.suppress(Exception):  # it may register itself; if it fails, it fails again when it is made
                load_env_creator(entry.entry_point)
        gymnasium.registry.setdefault(env_id, entry)


def _without_main(entry: RegisteredEnv) -> RegisteredEnv:
    """``entry`` with the class itself where it is in the program's main module, which is another one elsewhere."""
    if isinstance(entry.entry_point, str) and entry.entry_point.startswith("__main__:"):
        creator: Any = load_env_creator(entry.entry_point)
        return dataclasses.replace(entry, entry_point=creator)
    return entry
