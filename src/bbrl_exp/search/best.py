"""A configuration as what differs from that of its groups: a command line, or a file of ``conf/experiment``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.identity import is_free
from bbrl_exp.config.overrides import Quote, QuotedString
from bbrl_exp.config.project import current_project
from bbrl_exp.records.invocation import Invocation

FILE_NAME = "best.yaml"
_GROUPS = {"agent": None, "memory": None, "env": None, "tracking": "default"}
_LEFT_OUT = ("hydra", "seed", "dry_run", "eval.seed")  # results are not reported on the episodes of the search
_NOTHING = object()
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = ("true", "false", "null", "nan", "inf")


@dataclass(frozen=True)
class Difference:
    """What a configuration changes in that of its groups.

    Attributes:
        groups: option of each group that is to be named.
        changed: dotted key → value, where the groups' configuration has another.
        added: the same, where it has none.
        removed: the keys that it has too many.
        config_dir: the user's own folder of options, ``--config-dir``; None for none.
    """

    groups: Mapping[str, str]
    changed: Mapping[str, Any]
    added: Mapping[str, Any]
    removed: tuple[str, ...]
    config_dir: str | None

    @property
    def overrides(self) -> list[str]:
        """The overrides that give the configuration."""
        return [
            *(f"{group}={option}" for group, option in self.groups.items()),
            *(f"{key}={as_text(value)}" for key, value in self.changed.items()),
            *(f"+{key}={as_text(value)}" for key, value in self.added.items()),
            *(f"~{key}" for key in self.removed),
        ]


def difference_of(
    config: DictConfig, compose: Callable[[Sequence[str]], DictConfig], extra_dir: Path | None = None
) -> Difference:
    """How ``config`` differs from what the options of its groups give, but for its seed and what changes no number.

    Args:
        config: with its ``hydra`` node.
        compose: gives a configuration from overrides.
        extra_dir: ``--config-dir``.
    """
    choices = config.hydra.runtime.choices
    groups = {group: choices[group] for group, default in _GROUPS.items() if choices.get(group) not in (None, default)}
    base = compose([f"{group}={option}" for group, option in groups.items()])
    found = list(_differences(_plain(config), _plain(base), ""))
    return Difference(
        groups=groups,
        changed={key: value for key, value, before in found if before is not _NOTHING and value is not _NOTHING},
        added={key: value for key, value, before in found if before is _NOTHING},
        removed=tuple(key for key, value, _ in found if value is _NOTHING),
        config_dir=None if extra_dir is None else str(extra_dir),
    )


def as_command(difference: Difference) -> list[str]:
    """The words of the command line that runs it; without the folder of options where the project names it."""
    project = current_project()
    is_known = difference.config_dir in (None, project.config_dir if project else None)
    options = [] if is_known else ["--config-dir", str(difference.config_dir)]
    return [*Invocation.of_this_process().calling("run"), *options, *difference.overrides]


def as_experiment(difference: Difference, title: str) -> str:
    """The contents of a file of ``conf/experiment``, whose first comment is ``title``."""
    nested: dict[str, Any] = {}
    for key, value in {**difference.changed, **difference.added}.items():
        *parents, last = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    lines = ["# @package _global_", f"# {title}"]
    lines += [f"# A file cannot remove a key, so add to the command: ~{key}" for key in difference.removed]
    lines += ["", "defaults:", *(f"  - override /{group}: {option}" for group, option in difference.groups.items())]
    contents = yaml.safe_dump(nested, sort_keys=False, default_flow_style=False, allow_unicode=True) if nested else ""
    return "\n".join([*lines, "", contents])


def as_text(value: object) -> str:
    """A value as Hydra's grammar of overrides has it."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{as_text(key)}: {as_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and (not _PLAIN.fullmatch(value) or value.lower() in _WORDS):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value)


def _plain(config: DictConfig) -> dict[str, Any]:
    contents = OmegaConf.to_container(config, resolve=False)
    assert isinstance(contents, dict)
    return {str(key): value for key, value in contents.items()}


def _differences(found: Any, base: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Key, value and the base's value wherever they differ."""
    if is_free(key) or key in _LEFT_OUT:
        return
    if isinstance(found, dict) and isinstance(base, dict) and (found or not base):
        for name in {**base, **found}:
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(found.get(name, _NOTHING), base.get(name, _NOTHING), inner)
    elif found != base:
        yield key, found, base
