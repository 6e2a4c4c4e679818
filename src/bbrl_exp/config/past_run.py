"""An existing run as a configuration to run again: its own values, whatever ``conf/`` says today.

A run's ``.hydra/config.yaml`` holds the composed configuration with its interpolations. It is divided again into the
groups' options and the root, in a folder that Hydra searches before ``conf/``; so overrides of values and of groups
mean what they always mean, and every check is that of any other configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from bbrl_exp.config.identity import differing_keys, is_free
from bbrl_exp.config.overrides import Override, parse
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config import ADDED_KEYS, FIRST_BACKEND, load_config
from bbrl_exp.records.layout import CONFIG, HYDRA_CONFIG, OVERRIDES, SWEEP_CONFIG, UnreadableError
from bbrl_exp.records.provenance import git_commit, repositories, versions
from bbrl_exp.records.summary import read_summary
from bbrl_exp.settings import shown, value_at

_GROUPS = ("agent", "env", "tracking")
_MEMORY = "memory"  # a group that an agent with a memory chooses an option of
_OPTION = re.compile(r"\w[\w.-]*")
# What says where and how the run was run, and not what it was.
_OF_THE_OLD_RUN: Mapping[str, Any] = {"name": None, "resume": "auto", "pause_after": None, "dry_run": False}
_NOT_REPEATED = (*_OF_THE_OLD_RUN, "launcher", "search")
_GROWN = ("eval", "checkpoint")
_SHOWN = 5


@dataclass(frozen=True)
class PastRun:
    """What a run's folder says of its configuration.

    Attributes:
        folder: of the run.
        config: the root, composed, interpolations not resolved.
        choices: option of each group.
        overrides: that it was given.
        summary: the contents of ``summary.json``.
    """

    folder: Path
    config: dict[str, Any]
    choices: dict[str, str | None]
    overrides: tuple[str, ...]
    summary: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> PastRun:
        """Reads the folder of a run.

        Raises:
            ConfigurationError: it is not a run folder, or a file in it cannot be read.
        """
        summary = read_summary(folder)
        if summary is None:
            if (folder / SWEEP_CONFIG).exists():
                raise ConfigurationError(f"folder {folder} is a sweep's; name the folder of one of its jobs")
            raise ConfigurationError(f"folder {folder} is not a run folder (no summary.json)")
        config = _load(folder / CONFIG, DictConfig)
        hydra = _load(folder / HYDRA_CONFIG, DictConfig)
        overrides = _load(folder / OVERRIDES, ListConfig)
        found = hydra
        for key in ("hydra", "runtime", "choices"):
            found = found.get(key) if isinstance(found, dict) else None
        choices = {group: (found or {}).get(group) for group in (*_GROUPS, _MEMORY, "experiment")}
        _check(folder, config, choices)
        return cls(folder, config, choices, tuple(map(str, overrides)), summary)

    def with_added_keys(self, config_dir: Path) -> PastRun:
        """The same, with the keys of environments that the run did not know yet, such as ``env.backend``.

        Args:
            config_dir: whose options have them. Environments of the user's own stay as they are.
        """
        today, env = _load(config_dir / "env" / "gym.yaml", DictConfig), self.config["env"]
        agent = env.get("agent")
        own = {"_target_": today["backends"][FIRST_BACKEND], "env": today["agent"]["env"]}
        if not isinstance(agent, dict) or "id" not in env or any(agent.get(key) != own[key] for key in own):
            return self
        agent = {**today["agent"], **agent, "_target_": today["agent"]["_target_"]}
        return replace(self, config={**self.config, "env": {**today, **env, "agent": agent}})

    def write_options(self, place: Path, config_dir: Path) -> None:
        """Writes the configuration as a folder that is searched before ``config_dir``, which it names.

        Args:
            place: an empty folder.
            config_dir: whose ``config.yaml`` names the groups, and has the keys that the run did not know yet.
        """
        today = _load(config_dir / "config.yaml", DictConfig)
        options = {group: self.config[group] for group in _GROUPS}
        options["tracking"] = {**_load(config_dir / "tracking" / "default.yaml", DictConfig), **options["tracking"]}
        if self.choices[_MEMORY] is not None:
            options[_MEMORY] = self.config[_MEMORY]
            chosen = {f"override /{_MEMORY}@_global_.{_MEMORY}": self.choices[_MEMORY]}
            options["agent"] = {"defaults": ["_self_", chosen], **options["agent"]}
        for group, contents in options.items():
            _save(contents, place / group / f"{self.choices[group]}.yaml")
        if self.choices["experiment"] is not None:
            path = place / "experiment" / f"{self.choices['experiment']}.yaml"
            path.parent.mkdir()
            path.write_text("# @package _global_\n", encoding="utf-8")  # the other files have its values
        root = {key: value for key, value in self.config.items() if key not in options} | dict(_OF_THE_OLD_RUN)
        for key in _GROWN:
            root[key] = {**today[key], **root[key]}
        contents = {**today, **root, "defaults": [self._chosen(entry) for entry in today["defaults"]]}
        contents["hydra"] = {**today["hydra"], "searchpath": [f"file://{config_dir}"]}
        _save(contents, place / "config.yaml")

    def _chosen(self, entry: Any) -> Any:
        """One line of a defaults list with the run's own choice."""
        if not isinstance(entry, dict) or _MEMORY in entry:  # which the agent chooses
            return entry
        return {key: self.choices.get(key, option) for key, option in entry.items()}

    def overrides_with(self, more: Sequence[str]) -> list[str]:
        """The run's overrides as far as they still mean something, then ``more``.

        Raises:
            ConfigurationError: one of ``more`` cannot be read, or asks for another experiment.
        """
        new = parse(more)
        keys = {override.key_or_group for override in new}
        if "experiment" in keys:
            raise ConfigurationError("key 'experiment': a run cannot be run again as another experiment; use run")
        kept = [
            _again(override)
            for override in parse(self.overrides)
            if not override.is_delete() and not _is_replaced(override.key_or_group, keys)
        ]
        return [*kept, *more]

    def differences(self, config: DictConfig) -> str:
        """What is not as it was, in one line: values that matter to the numbers, versions, commit, a stack.

        Args:
            config: composed, of the run to be.
        """
        contents = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
        assert isinstance(contents, dict)
        written = {str(key): value for key, value in contents.items()}
        choices = {group: config.hydra.runtime.choices.get(group) for group in (*_GROUPS, _MEMORY)}
        changed = [group for group in choices if choices[group] != self.choices[group]]
        found = [
            f"{group} {self.choices[group] or 'null'} → {choices[group] or 'null'}"
            for group in changed
            if not is_free(f"{group}.")
        ]
        keys = [
            key
            for key in differing_keys(self.config, written)
            if not is_free(key) and key.partition(".")[0] not in changed and not _is_added(key, self.config, written)
        ]
        found += [f"{key} {_at(self.config, key)} → {_at(written, key)}" for key in keys[:_SHOWN]]
        found += [f"{len(keys) - _SHOWN} keys more"] if len(keys) > _SHOWN else []
        old, new = self.summary.get("versions") or {}, versions()
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        found += [f"{name} {old.get(name, 'absent')} → {new.get(name, 'absent')}" for name in names]
        commits = self.summary.get("git_commit"), git_commit(repositories())
        found += [f"commit {_short(commits[0])} → {_short(commits[1])}"] if commits[0] != commits[1] else []
        if self.summary.get("side_by_side_with") is not None:
            found.append("it was trained side by side, which rounds differently")
        return f"run again: {self.folder}; what differs: {', '.join(found) or 'nothing'}"


def _check(folder: Path, config: Mapping[str, Any], choices: Mapping[str, Any]) -> None:
    """Refuses what would not be a value but an instruction to Hydra."""
    path = folder / CONFIG
    for key in ("defaults", "hydra"):
        if key in config:
            raise ConfigurationError(f"{path}: key '{key}' is not one of a run's configuration")
    for group in _GROUPS:
        if not isinstance(config.get(group), dict) or "defaults" in config[group]:
            raise ConfigurationError(f"{path}: key '{group}' is no mapping of a run's configuration")
    grown = _GROWN if choices[_MEMORY] is None else (*_GROWN, _MEMORY)
    for key in grown:
        if not isinstance(config.get(key), dict) or "defaults" in config[key]:
            raise ConfigurationError(f"{path}: key '{key}' is no mapping of a run's configuration")
    for group, option in choices.items():
        is_name = isinstance(option, str) and _OPTION.fullmatch(option) is not None
        if not is_name and not (option is None and group in ("experiment", _MEMORY)):
            raise ConfigurationError(f"{folder / HYDRA_CONFIG}: group '{group}' = {shown(option)}: no option")


def _is_added(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a key is one that the version of the old run did not have, at the value at which nothing is different."""
    return key in ADDED_KEYS and _at(old, key) in (_at({}, key), "null") and _at(new, key) == shown(ADDED_KEYS[key])


def _is_replaced(key: str, new: set[str]) -> bool:
    first = key.partition(".")[0]
    is_of_hydra = key.startswith(("hydra.", "hydra/"))
    is_of_group = first in (*_GROUPS, _MEMORY) and first in new
    return is_of_hydra or key in _NOT_REPEATED or key in new or is_of_group or (first == _MEMORY and "agent" in new)


def _again(override: Override) -> str:
    line = str(override.input_line)
    return f"+{line}" if override.is_add() and not override.is_force_add() else line


def _load(path: Path, kind: type[DictConfig] | type[ListConfig]) -> Any:
    try:
        contents = load_config(path)
    except UnreadableError as error:
        raise ConfigurationError(str(error)) from error
    if not isinstance(contents, kind):
        raise ConfigurationError(f"{path} cannot be read: it is no {'mapping' if kind is DictConfig else 'list'}")
    return OmegaConf.to_container(contents, resolve=False)


def _save(contents: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    OmegaConf.save(OmegaConf.create(dict(contents)), path)


def _at(values: Mapping[str, Any], key: str) -> str:
    return shown(value_at(values, key, "absent"))


def _short(commit: object) -> str:
    return str(commit)[:8] if commit else "none"
