"""What of a configuration stands on TensorBoard's HPARAMS page: agent, environment, batch size, and what was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.app.identity import identity, is_free
from bbrl_exp.app.provenance import config_hash
from bbrl_exp.tracking.trial import Parameter, Trial

# What is no part of a setting, besides what changes no number.
_LEFT_OUT = ("seed", "launcher", "search")
_NO_FILE = ("tracking=none", "tracking.enabled=false", "tracking.tensorboard=false")
_DIGITS = 8


def trial_of(config: DictConfig, plain: Mapping[str, Any]) -> Trial:
    """A run as a trial of its setting.

    Args:
        config: composed, with its ``hydra`` node.
        plain: the same, resolved.

    Raises:
        ConfigurationError: an interpolation leads nowhere.
    """
    choices = config.hydra.runtime.choices
    names = {"agent": choices.get("agent") or "-", "env": choices.get("env") or "-"}
    parameters: dict[str, Parameter] = {**names, "batch_size": plain["batch_size"]}
    for override in _of_the_setting(_parsed(task_overrides(config.hydra))):
        key = override.key_or_group
        parameters[key] = _parameter(choices[key] if key in choices else _value_at(plain, key))
    return Trial(parameters, "-".join([*names.values(), _hash_without_seed(config)]))


def task_overrides(hydra: Any) -> tuple[str, ...]:
    """The overrides of a run as they were given: interpolations in them are left as they are."""
    texts: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return tuple(texts)


def trial_of_overrides(overrides: Sequence[str]) -> Trial | None:
    """The trial of a run that cannot start, from its overrides alone; None where they ask for no TensorBoard file."""
    if set(_NO_FILE) & set(overrides):
        return None
    try:
        parsed = list(_of_the_setting(_parsed(overrides)))
    except HydraException:
        texts = {key: value for key, _, value in (text.partition("=") for text in overrides) if key != "seed"}
        return Trial(texts, config_hash(texts)[:_DIGITS])
    values = {override.key_or_group: override.value() for override in parsed}
    return Trial({key: _parameter(value) for key, value in values.items()}, config_hash(values)[:_DIGITS])


def _parsed(overrides: Sequence[str]) -> list[Override]:
    parsed: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    return parsed


def _of_the_setting(overrides: Iterable[Override]) -> Iterable[Override]:
    for override in overrides:
        key = override.key_or_group
        if key not in _LEFT_OUT and not is_free(key) and not key.startswith(("hydra.", "hydra/")):
            yield override


def _value_at(plain: Mapping[str, Any], key: str) -> Any:
    value: Any = plain
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _parameter(value: Any) -> Parameter:
    if isinstance(value, (bool, int, float, str)):
        return value
    return "null" if value is None else str(value)


def _hash_without_seed(config: DictConfig) -> str:
    """The digits that are equal for runs which differ in nothing but their seed, and in what follows from it."""
    plain = OmegaConf.create({str(key): value for key, value in config.items_ex(resolve=False) if key != "hydra"})
    OmegaConf.update(plain, "seed", 0)
    return config_hash(identity(plain))[:_DIGITS]
