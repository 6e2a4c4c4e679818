"""What an experiment was made for, told where another agent or environment is chosen beside it."""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig

from bbrl_exp.config.folders import folders_of, option_files

_OVERRIDE = re.compile(r"override /?(?P<group>agent|env)")


def other_experiment(config: DictConfig) -> str | None:
    """What the experiment is made for, where another agent or environment is chosen beside it; else None.

    Args:
        config: composed, with its ``hydra`` node.
    """
    choices = config.hydra.runtime.choices
    name = choices.get("experiment")
    others = [f"{group}={option}" for group, option in _chosen_by(config, name).items() if choices.get(group) != option]
    return f"experiment={name} is made for {' and '.join(others)}, and its settings remain" if others else None


def _chosen_by(config: DictConfig, name: str | None) -> dict[str, str]:
    """The agent and the environment that the file of an experiment chooses, by group; empty where none is found."""
    path = option_files(folders_of(config), "experiment").get(name or "")
    if path is None:
        return {}
    try:
        contents: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    defaults = (contents.get("defaults") if isinstance(contents, dict) else None) or []
    chosen = {key: option for entry in defaults if isinstance(entry, dict) for key, option in entry.items()}
    found = ((_OVERRIDE.fullmatch(str(key)), option) for key, option in chosen.items())
    return {match["group"]: option for match, option in found if match is not None and isinstance(option, str)}
