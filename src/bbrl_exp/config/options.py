"""The files of the options: where they are, what an agent's and an experiment's file says about its use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config import texts_in
from bbrl_exp.records.layout import PACKAGED_CONF

if TYPE_CHECKING:
    from bbrl_exp.envs.spec import EnvSpec, LeafSpec

_CHOSEN = re.compile(r"override /?(?P<group>agent|env)")
_OF_MEMORY = re.compile(r"\$\{memory\.(\w+)")
_IN_WORDS = {"discrete": "one discrete action", "continuous": "one bounded box of floats as action"}


def default_config_dir() -> Path:
    """The configuration that belongs to this package: the copy in a wheel, or the folder ``conf`` of the checkout.

    Raises:
        ConfigurationError: neither exists.
    """
    candidates = [PACKAGED_CONF, Path(__file__).resolve().parents[3] / "conf"]
    for folder in candidates:
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigurationError(f"no configuration folder found; looked at {', '.join(map(str, candidates))}")


def option_files(folders: Iterable[Path], group: str) -> dict[str, Path]:
    """The files of a group's options, by name; of files of the same name the first counts."""
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def _contents(path: Path | None) -> dict[str, Any]:
    """What a file says; nothing if it is missing or cannot be read."""
    if path is None:
        return {}
    try:
        contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return contents if isinstance(contents, dict) else {}


def other_experiment(choices: Mapping[str, str | None], folders: Sequence[Path]) -> str | None:
    """The agent and environment that the chosen experiment is made for, if others are chosen beside it; else None."""
    experiment = choices["experiment"]
    defaults = _contents(option_files(folders, "experiment").get(experiment or "")).get("defaults") or []
    others = [
        f"{match['group']}={option}"
        for entry in defaults
        if isinstance(entry, dict)
        for key, option in entry.items()
        if (match := _CHOSEN.fullmatch(str(key))) is not None and choices[match["group"]] != option
    ]
    return f"experiment={experiment} is made for {' and '.join(others)}, and its settings remain" if others else None


def check_action_space(asked: str, spec: EnvSpec, agent: str | None, folders: Sequence[Path]) -> None:
    """Refuses an agent that cannot choose the actions of the environment, and names those of its group that can.

    Raises:
        ConfigurationError: the agent does not fit.
    """
    found = _action_space_of(spec)
    if asked in ("any", found):
        return
    files = option_files(folders, "agent")
    fitting = [name for name in files if _fits(_stated_by(name, files), spec)]
    raise ConfigurationError(
        f"key 'agent' = '{agent}': needs {_IN_WORDS[asked]}, and {spec.env_id} has "
        f"{', '.join(_in_words(leaf) for leaf in spec.actions)}; agents that fit: {', '.join(sorted(fitting))}"
    )


def check_memory(written: Mapping[str, Any], choices: Mapping[str, str | None], folders: Sequence[Path]) -> None:
    """Refuses a memory for an agent that has none, and an agent whose memory is not there.

    Args:
        written: the root, interpolations as they are written.
        choices: option of each group.
        folders: of the options.

    Raises:
        ConfigurationError: nothing of the agent refers to the memory, and the message names the agents that have one;
            or the agent refers to a key of the memory that is not there.
    """
    memory, referred = written.get("memory"), _of_memory(written.get("agent"))
    if referred:
        missing = [name for name in referred if not isinstance(memory, Mapping) or name not in memory]
        if missing:
            options = ", ".join(f"memory={name}" for name in sorted(option_files(folders, "memory")))
            raise ConfigurationError(
                f"key 'memory.{missing[0]}' is missing, and the agent {choices['agent']} refers to it; every option of "
                f"the group has it: {options}"
            )
    elif memory is not None:
        files = option_files(folders, "agent")
        fitting = [name for name in files if _of_memory(_stated_by(name, files))]
        chosen = "" if choices["memory"] is None else f" = '{choices['memory']}'"
        raise ConfigurationError(
            f"key 'memory'{chosen}: the agent {choices['agent']} has no memory; "
            f"agents with one: {', '.join(sorted(fitting))}"
        )


def _of_memory(agent: Any) -> list[str]:
    """The keys of the memory that an agent refers to."""
    return [name for text in texts_in(agent) for name in _OF_MEMORY.findall(text)]


def _action_space_of(spec: EnvSpec) -> str | None:
    if len(spec.actions) != 1:
        return None
    leaf = spec.actions[0]
    if leaf.kind == "discrete":
        return "discrete"
    return "continuous" if leaf.kind == "box" and leaf.is_bounded and leaf.dtype.startswith("float") else None


def _in_words(leaf: LeafSpec) -> str:
    bounds = "" if leaf.kind != "box" or leaf.is_bounded else "unbounded "
    shape = f" {list(leaf.shape)}" if leaf.shape else ""
    return f"'{leaf.name}', {bounds}{leaf.kind}{shape} of {leaf.dtype}"


def _fits(agent: Mapping[str, Any], spec: EnvSpec) -> bool:
    """Whether an agent can choose the actions; of one that says it can choose any, its classes are asked."""
    if agent.get("action_space") != "any":
        return "action_space" in agent and agent["action_space"] == _action_space_of(spec)
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
    contents = _contents(files.get(name))
    extended = [other for other in contents.get("defaults") or [] if isinstance(other, str) and other != name]
    try:
        merged = OmegaConf.merge(*(_stated_by(other, files) for other in extended), contents)
    except OmegaConfBaseException:
        return {}
    return cast("dict[str, Any]", OmegaConf.to_container(merged))
