"""Which agents fit an environment: an agent's file says what actions it can choose."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbrl_exp.config.folders import option_files
from bbrl_exp.config.targets import find_target
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
    files = option_files(folders, "agent")
    fitting = [name for name in files if _fits(_stated_by(name, files), spec)]
    raise ConfigurationError(
        f"key 'agent' = '{agent}': needs {_IN_WORDS[asked]}, and {spec.env_id} has "
        f"{', '.join(_in_words(leaf) for leaf in spec.actions)}; agents that fit: {', '.join(sorted(fitting))}"
    )


def _in_words(leaf: LeafSpec) -> str:
    bounds = "" if leaf.kind != "box" or leaf.is_bounded else "unbounded "
    shape = f" {list(leaf.shape)}" if leaf.shape else ""
    return f"'{leaf.name}', {bounds}{leaf.kind}{shape} of {leaf.dtype}"


def _fits(agent: Mapping[str, Any], spec: EnvSpec) -> bool:
    """Whether an agent can choose the actions; of one that says it can choose any, its classes are asked."""
    if agent.get("action_space") != "any":
        return "action_space" in agent and agent["action_space"] == action_space_of(spec)
    for name, node in agent.get("members", {}).items():
        try:
            target = find_target(node["_target_"], name)
            if "env_spec" in inspect.signature(target).parameters:
                target(env_spec=spec)
        except ConfigurationError:
            return False
        except Exception:  # an interpolation instead of a node, or arguments that it needs
            continue
    return True


def _stated_by(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """What the file of ``name`` and those that it extends say; the file itself wins."""
    if name not in files:
        return {}
    try:
        contents = yaml.safe_load(files[name].read_text(encoding="utf-8"))
        extended = [other for other in contents.get("defaults") or [] if isinstance(other, str) and other != name]
        merged = OmegaConf.merge(*(_stated_by(other, files) for other in extended), contents)
    except (OSError, yaml.YAMLError, AttributeError, OmegaConfBaseException):
        return {}
    return cast("dict[str, Any]", OmegaConf.to_container(merged))
