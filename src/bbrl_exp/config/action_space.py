"""Which agents fit an environment: an agent's file says what actions it can choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from bbrl_exp.config.folders import option_files
from bbrl_exp.errors import ConfigurationError

if TYPE_CHECKING:
    from bbrl_exp.envs.spec import EnvSpec, LeafSpec

_IN_WORDS = {"discrete": "one discrete action", "continuous": "one bounded box of floats as action"}


def action_space_of(spec: EnvSpec) -> str | None:
    """The kind of actions of an environment: ``discrete``, ``continuous``, or None for any other kind."""
    if len(spec.actions) != 1:
        return None
    leaf = spec.actions[0]
    if leaf.kind == "discrete":
        return "discrete"
    return "continuous" if leaf.kind == "box" and leaf.is_bounded and leaf.dtype.startswith("float") else None


def check_action_space(asked: str, spec: EnvSpec, agent: str | None, folders: Sequence[Path]) -> None:
    """Refuses an agent that cannot choose the actions of the environment, and names those of its group that can.

    Args:
        asked: ``agent.action_space``.
        spec: facts about the environment.
        agent: the option of the group ``agent``.
        folders: of options.

    Raises:
        ConfigurationError: the agent does not fit.
    """
    found = action_space_of(spec)
    if asked in ("any", found):
        return
    fitting = [name for name, kind in _agents(folders) if kind == "any" or (found is not None and kind == found)]
    raise ConfigurationError(
        f"key 'agent' = '{agent}': needs {_IN_WORDS[asked]}, and {spec.env_id} has "
        f"{', '.join(_in_words(leaf) for leaf in spec.actions)}; agents that fit: {', '.join(sorted(fitting))}"
    )


def _in_words(leaf: LeafSpec) -> str:
    bounds = "" if leaf.kind != "box" or leaf.is_bounded else "unbounded "
    shape = f" {list(leaf.shape)}" if leaf.shape else ""
    return f"'{leaf.name}', {bounds}{leaf.kind}{shape} of {leaf.dtype}"


def _agents(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Every option of the group ``agent`` that says its action space, and what it says."""
    files = option_files(folders, "agent")
    for name in files:
        kind = _said_by(name, files)
        if isinstance(kind, str):
            yield name, kind


def _said_by(name: str, files: dict[str, Path]) -> Any:
    """What the file of ``name``, or one that it extends, says; the file itself wins."""
    path = files.get(name)
    if path is None:
        return None
    try:
        contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    if not isinstance(contents, dict):
        return None
    if "action_space" in contents:
        return contents["action_space"]
    extended = [other for other in contents.get("defaults") or [] if isinstance(other, str) and other != name]
    return next((kind for other in reversed(extended) if (kind := _said_by(other, files)) is not None), None)
