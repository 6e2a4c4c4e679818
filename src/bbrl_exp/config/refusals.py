"""What Hydra, OmegaConf and YAML refuse, told in one line: key, value, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from yaml import MarkedYAMLError  # type: ignore[import-untyped]

from bbrl_exp.config.nodes import parameters_of
from bbrl_exp.config.schema import unknown_key
from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.text import one_line

_EXTRA_OF_LAUNCHER = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def refusal(error: Exception, defaults: Callable[[], DictConfig | None]) -> ConfigurationError:
    """Our error for one of Hydra's, OmegaConf's or YAML's.

    Args:
        error: what was raised.
        defaults: gives the configuration without the overrides of single keys, to find the nearest known key.
    """
    if isinstance(error, OverrideParseException):
        problem = str(error).replace(f"Error parsing override '{error.override}'\n", "").splitlines()[0]
        return ConfigurationError(
            f"override '{error.override}' cannot be read ({problem}): must be key=value, values with spaces quoted"
        )
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigurationError(f"file '{Path(mark.name)}', line {mark.line + 1}: YAML syntax error: {error.problem}")
    return _refused_override(error, defaults)


def _refused_override(error: Exception, defaults: Callable[[], DictConfig | None]) -> ConfigurationError:
    message = str(error)
    if match := re.match(r"Ambiguous value for argument '(?P<override>.*)'", message):
        key, _, value = match["override"].partition("=")
        return ConfigurationError(
            f"key '{key}' = {value}: several values need a sweep, written with -m (python scripts/run.py -m ...)"
        )
    if match := re.match(r"Sweep parameters '(?P<overrides>.*)' requires --multirun", message):
        return ConfigurationError(f"{match['overrides']}: several values need a sweep, written with -m")
    if match := re.match(r"Could not (?:override|append to config\. An item is already at) '(?P<key>[^']*)'", message):
        if "already at" in message:
            return ConfigurationError(f"key '{match['key']}' is there already: write it without +")
        new_key = str(getattr(error.__cause__, "full_key", None) or match["key"])
        if new_key.startswith(f"{match['key']}."):
            return ConfigurationError(f"key '{new_key}' is new, and what is new is added with +: +{new_key}=...")
        return _unknown_key(match["key"], defaults())
    if match := re.match(r"Could not delete from config. '(?P<key>.*)' does not exist", message):
        return ConfigurationError(f"key '{match['key']}' cannot be removed: it is not in the configuration")
    if match := re.match(r"(?P<group>\S+) appears more than once in the final defaults list", message):
        return ConfigurationError(f"key '{match['group']}': a group is chosen once; write it without +")
    return ConfigurationError(one_line(error))


def _unknown_key(key: str, config: DictConfig | None) -> ConfigurationError:
    if config is None:
        return ConfigurationError(f"key '{key}' is not in the configuration")
    parts = key.split(".")
    for depth in range(len(parts)):
        parent = OmegaConf.select(config, ".".join(parts[:depth]), throw_on_missing=False) if depth else config
        if not isinstance(parent, DictConfig):
            return ConfigurationError(f"key '{'.'.join(parts[:depth])}' is a value: nothing stands below it")
        if parts[depth] not in parent:
            if depth and not parent:
                return ConfigurationError(f"key '{key}' is new, and what is new is added with +: +{key}=...")
            parameters = _parameters(parent, ".".join(parts[:depth]))
            if parts[depth] in parameters:
                new_key = ".".join(parts[: depth + 1])
                return ConfigurationError(f"key '{new_key}' is new, and what is new is added with +: +{new_key}=...")
            known = {str(name) for name in parent if name != "hydra"}
            if elsewhere := [] if depth else _keys_that_end_with(key, config):
                return ConfigurationError(f"key '{key}' is not known; did you mean '{elsewhere[0]}'?")
            return unknown_key(".".join(parts[: depth + 1]), known.union(parameters))
    return ConfigurationError(f"key '{key}' cannot be set")


def _keys_that_end_with(ending: str, node: object, above: str = "") -> list[str]:
    """The dotted keys below ``node`` that end with these parts, such as ``policy.dueling``; those of Hydra left out."""
    if not isinstance(node, DictConfig):
        return []
    found: list[str] = []
    for part in node:
        key = f"{above}{part!s}"
        if f".{key}".endswith(f".{ending}"):
            found.append(key)
        elif key != "hydra":
            found += _keys_that_end_with(ending, node._get_node(part), f"{key}.")
    return found


def _parameters(node: DictConfig, key: str) -> list[str]:
    """What the class of a node can be given by a configuration; nothing where there is none.

    The policy of a learner or a critic is filled in from the graph.
    """
    if "_target_" not in node or OmegaConf.is_interpolation(node, "_target_"):
        return []
    try:
        return [name for name in parameters_of(find_target(node["_target_"], f"{key}._target_")) if name != "policy"]
    except ConfigurationError:
        return []


def _unknown_option(error: MissingConfigException) -> ConfigurationError:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return ConfigurationError(f"configuration file '{option}' is not there")
    options = list(error.options or [])
    near = did_you_mean(option, options) or ";"
    shown = option.removesuffix(".yaml")
    if group == "hydra/launcher" and shown in _EXTRA_OF_LAUNCHER:
        extra = _EXTRA_OF_LAUNCHER[shown]
        install = f'pip install "bbrl_exp[{extra}]"'
        return ConfigurationError(f"key 'launcher' needs the extra '{extra}', which is not installed: {install}")
    return ConfigurationError(f"key '{group}' = '{shown}': no such option{near} allowed: {', '.join(options)}")
