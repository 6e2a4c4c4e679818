"""What Hydra, OmegaConf and YAML refuse, in one line: key, value, what is allowed."""

from __future__ import annotations

from pathlib import Path

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from yaml import MarkedYAMLError  # type: ignore[import-untyped]

from bbrl_exp.config.nodes import parameters_of
from bbrl_exp.config.schema import unknown_key
from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.text import one_line

_EXTRA_OF_LAUNCHER = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def refusal(error: Exception) -> ConfigurationError:
    """Our error for one that Hydra, OmegaConf or YAML raised."""
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigurationError(f"file '{Path(mark.name)}', line {mark.line + 1}: YAML syntax error: {error.problem}")
    if isinstance(error, RecursionError):
        return ConfigurationError("the configuration is nested too deeply")
    cause = error.__cause__
    return ConfigurationError(one_line(error) if cause is None else f"{one_line(error)}: {one_line(cause)}")


def unknown_override(key: str, config: DictConfig, missing: object) -> ConfigurationError:
    """The error for an override of a key that the configuration does not have.

    Args:
        key: of the override.
        config: composed.
        missing: the key at which the configuration ends, below ``key`` where a mapping brings new keys.
    """
    if str(missing or "").startswith(f"{key}."):
        return _new_key(str(missing))
    return _unknown_key(key, config)


def _new_key(key: str) -> ConfigurationError:
    return ConfigurationError(f"key '{key}' is new, and what is new is added with +: +{key}=...")


def _unknown_key(key: str, config: DictConfig) -> ConfigurationError:
    parts = key.split(".")
    for depth in range(len(parts)):
        parent = OmegaConf.select(config, ".".join(parts[:depth]), throw_on_missing=False) if depth else config
        if not isinstance(parent, DictConfig):
            return ConfigurationError(f"key '{'.'.join(parts[:depth])}' is a value: nothing stands below it")
        if parts[depth] not in parent:
            if depth and not parent:
                return _new_key(key)
            parameters = _parameters(parent, ".".join(parts[:depth]))
            if parts[depth] in parameters:
                return _new_key(".".join(parts[: depth + 1]))
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


def is_parameter(name: str, node: DictConfig, key: str) -> bool:
    """Whether the class of the node at ``key`` can be given ``name`` by a configuration."""
    return name in _parameters(node, key)


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
