"""Overrides of the command line: read by Hydra's grammar, and applied to a composed configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from inspect import Parameter, Signature
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
)
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from bbrl_exp.arguments import former_argument
from bbrl_exp.config.nodes import parameters_of
from bbrl_exp.config.schema import unknown_key
from bbrl_exp.config.switched_off import is_of_nodes
from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.text import one_line

__all__ = [  # also what Hydra's grammar is made of
    "ChoiceSweep",
    "Glob",
    "IntervalSweep",
    "Override",
    "Quote",
    "QuotedString",
    "RangeSweep",
    "apply",
    "fitted",
    "is_of_hydra",
    "parse",
]

_SWEPT = "hydra.sweeper.params"
_FILLED_IN = ("policy", "input_shape", "n_inputs", "generator")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_NOTED = ("hydra.overrides", "hydra.runtime")


def parse(overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra's grammar reads them.

    Raises:
        ConfigurationError: one of them cannot be read.
    """
    try:
        parsed: list[Override] = OverridesParser(_functions()).parse_overrides(list(overrides))
    except OverrideParseException as error:
        problem = str(error).replace(f"Error parsing override '{error.override}'\n", "").splitlines()[0]
        raise ConfigurationError(
            f"override '{error.override}' cannot be read ({problem}): must be key=value, values with spaces quoted"
        ) from error
    except RecursionError as error:
        raise ConfigurationError("an override cannot be read: it is nested too deeply") from error
    return parsed


def _functions() -> Any:
    """The functions of Hydra's grammar; its own ``choice`` refuses null, which ``a=null,1`` may have."""
    functions = create_functions()
    functions.definitions["choice"] = Signature([Parameter("args", Parameter.VAR_POSITIONAL, annotation=object)])
    return functions


def is_of_hydra(text: str) -> bool:
    """Whether an override, or a key, is about Hydra itself: it begins with ``hydra.`` or ``hydra/``."""
    return text.lstrip("+~").startswith(("hydra.", "hydra/"))


def apply(override: Override, config: DictConfig) -> None:
    """Changes, adds or removes a value of ``config``, by the rules of Hydra.

    Raises:
        ConfigurationError: the key does not exist, or exists and is added; or the value cannot be put there.
    """
    key = override.key_or_group
    if key == "hydra" or key.startswith(_NOTED):
        raise ConfigurationError(f"key '{key}' cannot be set: Hydra fills it in")
    if override.package is not None:
        raise ConfigurationError(f"override '{override.input_line}': '{key}' is not a group")
    if not is_of_hydra(key):
        _refuse_below_null(key, config)
        if not override.is_delete():
            _refuse_below_reference(key, config)
    elif key.startswith(_SWEPT) and OmegaConf.select(config, _SWEPT) is None:
        raise ConfigurationError(
            f"key '{key}': is for YAML; on the command line write what varies, such as -m seed=1,2"
        )
    try:
        if override.is_delete():
            _remove(override, config)
        elif override.is_add() or override.is_force_add():
            _add(override, config)
        else:
            OmegaConf.update(config, key, override.value(), merge=True)
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise _unknown_override(override, config, error.full_key) from error
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"override '{override.input_line}': {one_line(error)}") from error


def fitted(override: Override, config: DictConfig) -> Override:
    """The override with ``+`` where the configuration lacks its key, and without where it has it.

    Options that a sweep goes over state different parameters of what they build, and all of them can be given.

    Args:
        override: of a value.
        config: composed.
    """
    key, text = override.key_or_group, str(override.input_line)
    parent_key, _, name = key.rpartition(".")
    parent = OmegaConf.select(config, parent_key, throw_on_missing=False) if parent_key else config
    if not isinstance(parent, DictConfig) or override.is_delete() or override.is_force_add():
        return override
    is_there = name in parent.keys()  # noqa: SIM118 (also what is missing, ???)
    if override.is_add() and is_there and not isinstance(override.value(), dict | list):
        return parse([text[1:]])[0]
    if not override.is_add() and not is_there and name in _parameters(parent, parent_key):
        return parse([f"+{text}"])[0]
    return override


def _add(override: Override, config: DictConfig) -> None:
    key, value = override.key_or_group, override.value()
    is_there = OmegaConf.select(config, key, throw_on_missing=False) is not None
    if is_there and override.is_add() and not isinstance(value, dict | list):
        raise ConfigurationError(f"key '{key}' exists already: write it without +")
    OmegaConf.update(config, key, value, merge=True, force_add=True)


def _remove(override: Override, config: DictConfig) -> None:
    key, value = override.key_or_group, override.value()
    found = OmegaConf.select(config, key, throw_on_missing=False)
    if found is None:
        raise ConfigurationError(f"key '{key}' cannot be removed: it is not in the configuration")
    if value is not None and value != found:
        raise ConfigurationError(f"key '{key}' cannot be removed: its value is {found}, not {value}")
    parent_key, _, name = key.rpartition(".")
    parent = OmegaConf.select(config, parent_key) if parent_key else config
    with_structure = OmegaConf.is_struct(parent)
    OmegaConf.set_struct(parent, False)
    del parent[name]
    OmegaConf.set_struct(parent, with_structure)


def _refuse_below_null(key: str, config: DictConfig) -> None:
    node: object = config
    parts = key.split(".")
    for depth in range(1, len(parts)):
        if not isinstance(node, DictConfig):
            return
        node = node._get_node(parts[depth - 1], validate_access=False)
        if isinstance(node, Node) and node._is_interpolation():
            return
        if isinstance(node, Node) and node._is_none():
            above, name = ".".join(parts[:depth]), parts[depth - 1]
            is_off = is_of_nodes(".".join(parts[: depth - 1]))
            fix = f"; '{name}' is switched off, {above}={{_target_: ...}} switches it on" if is_off else ""
            raise ConfigurationError(f"key '{key}': there are no keys below '{above}', which is null{fix}")


def _refuse_below_reference(key: str, config: DictConfig) -> None:
    parts = key.split(".")
    node: object = config
    for depth in range(1, len(parts)):
        if not isinstance(node, DictConfig):
            return
        node = node._get_node(parts[depth - 1], validate_access=False)
        if isinstance(node, Node) and (found := _REFERENCE.fullmatch(str(node._value()))) is not None:
            above, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
            raise ConfigurationError(
                f"key '{key}': '{above}' is {found[0]}; set {found[1]}.{rest}, or replace it: {above}={{...}}"
            )


def _unknown_override(override: Override, config: DictConfig, missing: object) -> ConfigurationError:
    """The error for a key that the configuration does not have; it ends at ``missing``, below ``key`` for a mapping."""
    key = override.key_or_group
    parent_key, _, name = key.rpartition(".")
    nodes = OmegaConf.select(config, parent_key) if is_of_nodes(parent_key) else None
    if override.value() is None and isinstance(nodes, DictConfig):
        near = did_you_mean(name, list(map(str, nodes))) or ";"
        there = ", ".join(map(str, nodes)) or "none"
        return ConfigurationError(f"key '{key}' = null: there is no such node to switch off{near} known: {there}")
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
            return ConfigurationError(f"key '{'.'.join(parts[:depth])}' is a value: there are no keys below it")
        if parts[depth] not in parent:
            if depth and not parent:
                return _new_key(key)
            if (instead := _instead(parent, parts[depth])) is not None:
                raise ConfigurationError(f"key '{key}': {instead}")
            parameters = _parameters(parent, ".".join(parts[:depth]))
            if parts[depth] in parameters:
                return _new_key(".".join(parts[: depth + 1]))
            if not depth and parts[0] == "memory":  # the key is there with an option of the group
                fix = "choose one that has, such as agent=recurrent_ppo"
                return ConfigurationError(f"key '{key}': the agent has no memory; {fix}")
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
    """The parameters of a node's class but for those that are filled in, such as the policy of a learner."""
    target = _target(node, key)
    return [] if target is None else [name for name in parameters_of(target) if name not in _FILLED_IN]


def _instead(node: DictConfig, name: str) -> str | None:
    """What is to be written instead of a parameter that a node's class had once; None where it had none."""
    target = _target(node, "")
    return None if target is None else former_argument(target, name)


def _target(node: DictConfig, key: str) -> type[Any] | None:
    """The class of a node; None where it has none, or one that cannot be found."""
    if "_target_" not in node:
        return None
    try:
        return find_target(node["_target_"], f"{key}._target_")
    except (ConfigurationError, OmegaConfBaseException):  # it may refer to a key that has another value later
        return None
