"""Reads the configuration that a run was started with, as dotted keys and texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml  # type: ignore[import-untyped]

FILE_NAME = ".hydra/config.yaml"
_MOST_BYTES = 1_000_000
_DEEPEST = 50


class UnreadableConfigError(Exception):
    """What is wrong with a configuration file, in words."""


def read_config(folder: Path) -> dict[str, str]:
    """The configuration in ``folder``: dotted keys, values as text, interpolations as they stand.

    Raises:
        UnreadableConfigError: there is none, or it is none.
    """
    try:
        contents = (folder / FILE_NAME).read_bytes()
    except FileNotFoundError:
        raise UnreadableConfigError(f"no {FILE_NAME}") from None
    except OSError as error:
        raise UnreadableConfigError(f"{FILE_NAME} cannot be read: {error.strerror}") from error
    if len(contents) > _MOST_BYTES:
        raise UnreadableConfigError(f"{FILE_NAME} has more than {_MOST_BYTES:,} bytes")
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        if not _is_tame(yaml.parse(contents, Loader=loader)):
            raise UnreadableConfigError(f"{FILE_NAME} holds aliases, or is nested too deeply")
        loaded = yaml.load(contents, Loader=loader)
        if not isinstance(loaded, dict):
            raise UnreadableConfigError(f"{FILE_NAME} is not a mapping")
        return dict(_flat(loaded, ""))
    except (yaml.YAMLError, TypeError, ValueError) as error:  # a 13th month, keys that cannot be sorted
        raise UnreadableConfigError(f"{FILE_NAME} is not YAML") from error


def overridden(overrides: Sequence[str]) -> dict[str, str]:
    """The keys and values of Hydra overrides: ``+a.b=1`` is ``{"a.b": "1"}``; deletions are left out."""
    pairs = (override.partition("=") for override in overrides if not override.startswith("~"))
    return {key.lstrip("+").replace("/", "."): value for key, sign, value in pairs if sign}


def as_text(value: object) -> str:
    """A value of a configuration, as on a command line."""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _is_tame(events: Iterable[object]) -> bool:
    """Whether a file is as small as it looks: aliases of aliases make a value without end."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
            return False
    return True


def _flat(value: dict[object, object], prefix: str) -> Iterator[tuple[str, str]]:
    for name, child in value.items():
        if isinstance(child, dict) and child:
            yield from _flat(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", as_text(child)
