"""Overrides of the command line: read by Hydra's grammar, and applied to a composed configuration."""

from __future__ import annotations

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
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from bbrl_exp.config.refusals import is_parameter, unknown_override
from bbrl_exp.errors import ConfigurationError
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

    Args:
        override: of a value, not of a group, with a single value.
        config: composed.

    Raises:
        ConfigurationError: the key does not exist, or exists and is added; or the value cannot be put there.
    """
    key = override.key_or_group
    if key.startswith(_NOTED):
        raise ConfigurationError(f"key '{key}' cannot be set: what is found there is noted by Hydra")
    if override.package is not None:
        raise ConfigurationError(f"override '{override.input_line}': '{key}' is not a group")
    try:
        if override.is_delete():
            _remove(override, config)
        elif override.is_add() or override.is_force_add():
            _add(override, config)
        else:
            OmegaConf.update(config, key, override.value(), merge=True)
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise unknown_override(key, config, error.full_key) from error
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
    if not override.is_add() and not is_there and is_parameter(name, parent, parent_key):
        return parse([f"+{text}"])[0]
    return override


def _add(override: Override, config: DictConfig) -> None:
    key, value = override.key_or_group, override.value()
    is_there = OmegaConf.select(config, key, throw_on_missing=False) is not None
    if is_there and override.is_add() and not isinstance(value, dict | list):
        raise ConfigurationError(f"key '{key}' is there already: write it without +")
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
