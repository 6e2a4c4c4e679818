"""The part of a configuration that results depend on: what makes two runs the same one, and its HPARAMS entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbrl_exp.config.switched_off import without_switched_off
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config import (
    ADDED_KEYS,
    ADDED_TO_ENVIRONMENTS,
    BACKEND,
    BACKENDS,
    FIRST_BACKEND,
    load_config,
)
from bbrl_exp.records.layout import CONFIG, UnreadableError
from bbrl_exp.records.provenance import config_hash
from bbrl_exp.settings import value_at
from bbrl_exp.text import one_line

if TYPE_CHECKING:
    from bbrl_exp.tracking.hparams import HparamsEntry, Parameter

# What a run records, keeps and is called, and how many processes share its work, changes none of its numbers.
_FREE: Mapping[str, Any] = {
    "name": None,
    "resume": "auto",
    "pause_after": None,
    "dry_run": False,
    "eval.workers": 0,
    "env.workers": 0,
    "env.worker_timeout": 60.0,
}
# Left out when all is resolved: a setting that refers to one of them counts.
_FREE_GROUPS = ("tracking", "checkpoint")
_SAME_ROWS = ("auto", "scalar", "workers")
# What a run that is extended differs in from what it was.
LENGTH_KEYS = frozenset({"total_steps", "schedule_steps"})
# When a run stops before its end is no part of what it is: it can be extended.
_STOPPING = "stop_when"
# Agents run, and wrappers wrap, in the order in which they are written.
_ORDERED = ("agent.members", "env.wrappers")
# Not shown as a part of the setting, in addition to what changes no number.
_NOT_SHOWN = ("seed", "launcher", "search", _STOPPING, *LENGTH_KEYS)
_NO_FILE = (
    "tracking=none",
    "tracking.enabled=false",
    "tracking.tensorboard=false",
    "tracking.sinks.tensorboard=null",
    "~tracking.sinks.tensorboard",
)
_DIGITS = 8


def is_free(key: str) -> bool:
    """Whether the value at ``key`` changes none of a run's numbers."""
    return key in _FREE or key.partition(".")[0] in _FREE_GROUPS


def identity(config: DictConfig, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration without ``hydra``, resolved, with all that changes no number set to one value.

    What is switched off counts as what was never there.

    Args:
        config: composed.
        changes: values by dotted key that replace its own.

    Raises:
        ConfigurationError: an interpolation leads nowhere, or the value of a key is missing.
    """
    plain = OmegaConf.create({str(key): value for key, value in config.items_ex(resolve=False) if key != "hydra"})
    OmegaConf.set_struct(plain, False)
    for key, value in {**_FREE, **(changes or {})}.items():
        if not key.startswith("env.") or key.removeprefix("env.") in (plain.get("env") or {}):
            OmegaConf.update(plain, key, value, merge=False)
    if OmegaConf.select(plain, "env.stepping") in _SAME_ROWS:
        OmegaConf.update(plain, "env.stepping", _SAME_ROWS[0])
    try:
        contents = OmegaConf.to_container(plain, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigurationError(one_line(error)) from error
    found = {str(key): value for key, value in contents.items()} if isinstance(contents, dict) else {}
    if found.get("schedule_steps") == found.get("total_steps"):
        found["schedule_steps"] = None
    return _without_added({**without_switched_off(found), **{key: {} for key in _FREE_GROUPS}})


def _without_added(found: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """An identity without the keys that earlier versions lack, where nothing is different: the hash is the same."""
    kept = {}
    for name, value in found.items():
        key = f"{parent}{name}"
        if key == _STOPPING or (key in ADDED_KEYS and value == ADDED_KEYS[key]):
            continue
        if name == ADDED_TO_ENVIRONMENTS and value is None:
            continue
        if key == BACKENDS or (key == BACKEND and value == FIRST_BACKEND):
            continue
        kept[name] = _without_added(value, f"{key}.") if isinstance(value, Mapping) else value
    return kept


def saved_identity(folder: Path) -> dict[str, Any]:
    """The identity of the run in a folder.

    Raises:
        ConfigurationError: its configuration cannot be read.
    """
    try:
        return identity(saved_config(folder))
    except (UnreadableError, ConfigurationError, OmegaConfBaseException) as error:
        raise ConfigurationError(
            f"folder {folder} holds a run whose configuration cannot be read ({one_line(error)}); choose another name"
        ) from error


def saved_config(folder: Path) -> DictConfig:
    """The configuration of the run in a folder, interpolations as they are written.

    Raises:
        UnreadableError: it cannot be read.
    """
    saved = load_config(folder / CONFIG)
    if not isinstance(saved, DictConfig):
        raise UnreadableError(f"{folder / CONFIG}: no mapping")
    return saved


def identity_hash(config: DictConfig, changes: Mapping[str, Any] | None = None) -> str:
    """Sixteen hexadecimal digits that are equal where the numbers of two runs should be."""
    return config_hash(identity(config, changes))


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys, dotted, at which two identities differ: short ones first, last the graph, which repeats others."""
    both = flat(one), flat(other)
    found = [key for key in {**both[0], **both[1]} if both[0].get(key, ...) != both[1].get(key, ...)]
    if not found:
        found = [key for key in _ORDERED if _names_below(both[0], key) != _names_below(both[1], key)]
    return sorted(found, key=lambda key: (key.startswith("graph."), key.count("."), key))


def _names_below(values: Mapping[str, Any], key: str) -> list[str]:
    below = (name.removeprefix(f"{key}.") for name in values if name.startswith(f"{key}."))
    return list(dict.fromkeys(name.partition(".")[0] for name in below))


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of an identity by dotted key."""
    found: dict[str, Any] = {}
    for name, child in value.items():
        if isinstance(child, Mapping) and child:
            found |= flat(child, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = child
    return found


def hparams_of(config: DictConfig, plain: Mapping[str, Any]) -> HparamsEntry:
    """What the page shows of a run. ``total_steps`` is left out: a run can be made longer, and the page cannot change.

    Raises:
        ConfigurationError: an interpolation leads nowhere.
    """
    from bbrl_exp.tracking.hparams import HparamsEntry  # tensorboard

    choices = config.hydra.runtime.choices
    names = {"agent": choices.get("agent") or "-", "env": choices.get("env") or "-"}
    parameters: dict[str, Parameter] = {**names, "batch_size": plain["batch_size"]}
    for override in _of_the_setting(_parsed(task_overrides(config.hydra))):
        key = override.key_or_group
        parameters[key] = _parameter(choices[key] if key in choices else value_at(plain, key))
    without_seed = identity_hash(config, {"seed": 0})[:_DIGITS]
    return HparamsEntry(parameters, "-".join([*names.values(), without_seed]))


def task_overrides(hydra: Any) -> tuple[str, ...]:
    """The overrides of a run as they were given: interpolations in them are left as they are."""
    texts = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(texts, list)
    return tuple(texts)


def hparams_of_overrides(overrides: Sequence[str]) -> HparamsEntry | None:
    """The entry of a run that cannot start, from its overrides alone; None where they ask for no TensorBoard file."""
    from bbrl_exp.tracking.hparams import HparamsEntry

    if set(_NO_FILE) & set(overrides):
        return None
    try:
        parsed = list(_of_the_setting(_parsed(overrides)))
    except HydraException:
        texts = {key: value for key, _, value in (text.partition("=") for text in overrides) if key != "seed"}
        return HparamsEntry(texts, config_hash(texts)[:_DIGITS])
    values = {override.key_or_group: override.value() for override in parsed}
    return HparamsEntry({key: _parameter(value) for key, value in values.items()}, config_hash(values)[:_DIGITS])


def _parsed(overrides: Sequence[str]) -> list[Override]:
    parsed: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    return parsed


def _of_the_setting(overrides: Iterable[Override]) -> Iterable[Override]:
    for override in overrides:
        key = override.key_or_group
        if (
            key not in _NOT_SHOWN
            and key.partition(".")[0] != _STOPPING
            and not is_free(key)
            and not key.startswith(("hydra.", "hydra/"))
        ):
            yield override


def _parameter(value: Any) -> Parameter:
    if isinstance(value, (bool, int, float, str)):
        return value
    return "null" if value is None else str(value)
