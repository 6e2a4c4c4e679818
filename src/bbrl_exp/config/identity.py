"""What makes two runs the same one: the part of a configuration that results depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.provenance import config_hash
from bbrl_exp.text import one_line

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
# Agents run, and wrappers wrap, in the order in which they stand.
_ORDERED = ("agent.members", "env.wrappers")


def is_free(key: str) -> bool:
    """Whether what stands at ``key`` changes none of a run's numbers."""
    return key in _FREE or key.partition(".")[0] in _FREE_GROUPS


def identity(config: DictConfig) -> dict[str, Any]:
    """The configuration without ``hydra``, resolved, with all that changes no number set to one value.

    Raises:
        ConfigurationError: an interpolation leads nowhere, or the value of a key is missing.
    """
    plain = OmegaConf.create({str(key): value for key, value in config.items_ex(resolve=False) if key != "hydra"})
    OmegaConf.set_struct(plain, False)
    for key, value in _FREE.items():
        OmegaConf.update(plain, key, value, merge=False)
    if OmegaConf.select(plain, "env.stepping") in _SAME_ROWS:
        OmegaConf.update(plain, "env.stepping", _SAME_ROWS[0])
    try:
        contents = OmegaConf.to_container(plain, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigurationError(one_line(error)) from error
    found = {str(key): value for key, value in contents.items()} if isinstance(contents, dict) else {}
    return {**found, **{key: {} for key in _FREE_GROUPS}}


def identity_hash(config: DictConfig) -> str:
    """Sixteen hexadecimal digits that are equal where the numbers of two runs should be."""
    return config_hash(identity(config))


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys, dotted, at which two identities differ: short ones first, last the graph, which repeats others."""
    flat = _flat(one, ""), _flat(other, "")
    found = [key for key in {**flat[0], **flat[1]} if flat[0].get(key, ...) != flat[1].get(key, ...)]
    if not found:
        found = [key for key in _ORDERED if _names_below(flat[0], key) != _names_below(flat[1], key)]
    return sorted(found, key=lambda key: (key.startswith("graph."), key.count("."), key))


def _names_below(flat: Mapping[str, Any], key: str) -> list[str]:
    below = (name.removeprefix(f"{key}.") for name in flat if name.startswith(f"{key}."))
    return list(dict.fromkeys(name.partition(".")[0] for name in below))


def _flat(value: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, child in value.items():
        if isinstance(child, Mapping) and child:
            flat |= _flat(child, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = child
    return flat
