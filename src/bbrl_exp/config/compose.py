"""Composition of a configuration: Hydra puts the options of its groups together, then the other overrides apply."""

from __future__ import annotations

import contextlib
import copy
import errno
import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import hydra
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import MarkedYAMLError  # type: ignore[import-untyped]

from bbrl_exp.config.hydra_node import check_hydra_node, search_path_folders
from bbrl_exp.config.options import option_files
from bbrl_exp.config.overrides import apply, fitted, is_of_hydra, parse
from bbrl_exp.config.search_settings import SWEEPER, SWEEPER_NODE
from bbrl_exp.config.side_by_side import NODE, SIDE_BY_SIDE
from bbrl_exp.config.switched_off import is_of_nodes, without_switched_off
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.records.layout import job_folder_name, run_folder_name
from bbrl_exp.settings import bad_value, can_be_a_path, value_at
from bbrl_exp.text import one_line

VERSION_BASE = "1.3"
_CHOICE = re.compile(r"\$\{([\w.]+)\.\$\{([\w.]+)\}\}")
_EXTRA_OF_LAUNCHER = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def register() -> None:
    """Registers the resolvers of ``conf/config.yaml``, the sweeper of searches and the launcher of stacks."""
    OmegaConf.register_new_resolver("run_folder", run_folder_name, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("job_folder", job_folder_name, replace=True)
    ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=SWEEPER_NODE, provider="bbrl_exp")
    ConfigStore.instance().store(group="hydra/launcher", name=SIDE_BY_SIDE, node=dict(NODE), provider="bbrl_exp")


class SeveralValuesError(ConfigurationError):
    """A key is given several values, and no sweep is asked for."""


class Composer:
    """Composes configurations of a folder; :meth:`close` puts Hydra's global state back.

    What the options of the groups give is composed once for each choice of them, so that the jobs of a sweep, which
    differ in single values, cost little.

    Args:
        config_dir: the folder of ``config.yaml``.
        config_name: the root file, without ``.yaml``.
        extra_dir: a user's own folder (``--config-dir``).

    Raises:
        ConfigurationError: a folder does not exist.
    """

    def __init__(self, config_dir: Path, config_name: str = "config", extra_dir: Path | None = None) -> None:
        for folder in (config_dir, extra_dir):
            if folder is not None and not folder.is_dir():
                raise ConfigurationError(f"configuration folder {folder} does not exist")
        self.config_name = config_name
        self.extra_dir = extra_dir
        self._config_dir, self._other_dir = config_dir.resolve(), extra_dir
        root = f"{config_name}.yaml"
        if extra_dir is not None and (extra_dir / root).is_file() and not (config_dir / root).is_file():
            # Hydra looks for the root file in the first folder only.
            self._config_dir, self._other_dir = extra_dir.resolve(), config_dir.resolve()
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._previous = (
            GlobalHydra.instance().hydra,
            HydraConfig.instance().cfg,
            VersionBase.instance().version_base,
        )
        register()
        version.setbase(VERSION_BASE)
        GlobalHydra.instance().clear()
        hydra.initialize_config_dir(str(self._config_dir), job_name="run", version_base=VERSION_BASE)
        self._hydra = GlobalHydra.instance().hydra

    def close(self) -> None:
        """Puts Hydra's global state back."""
        former, config, version_base = self._previous
        GlobalHydra.instance().hydra = former
        HydraConfig.instance().cfg = config
        VersionBase.instance().version_base = version_base

    def __enter__(self) -> Composer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def compose(self, overrides: Sequence[str], *, is_job: bool = False) -> DictConfig:
        """The configuration with its ``hydra`` node.

        Args:
            overrides: of the run.
            is_job: they are those of all jobs of a sweep, which may have other options:
                see :func:`~bbrl_exp.config.overrides.fitted`.

        Raises:
            SeveralValuesError: a key has several values.
            ConfigurationError: it cannot be composed; the message names key, value and what is allowed.
        """
        parsed = parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise _several_values(override)
        folders = self.folders(parsed)
        choices = [override for override in parsed if is_choice(override, folders)]
        config = self._of_choices(choices, folders)
        with _refusals():
            for index, override in enumerate(parsed):
                if override not in choices and override.get_key_element() != "hydra.searchpath":
                    parsed[index] = fitted(override, config) if is_job else override
                    apply(parsed[index], config)
            _note_overrides(config, parsed)
            check_hydra_node(config)
        return config

    def folders(self, parsed: Sequence[Override] = ()) -> list[Path]:
        """The folders of options: ``config_dir``, those of ``hydra.searchpath``, the user's own.

        Raises:
            ConfigurationError: one of them is a package, which Hydra would import.
        """
        places = self._search_path
        for override in parsed:
            if override.get_key_element() == "hydra.searchpath":
                places = override.value()
        return [self._config_dir, *search_path_folders(places), *([self._other_dir] if self._other_dir else [])]

    @functools.cached_property
    def _search_path(self) -> object:
        """The value of ``hydra.searchpath`` in the root file, None where it has none."""
        path = self._config_dir / f"{self.config_name}.yaml"
        if not path.is_file():
            raise ConfigurationError(f"configuration file '{self.config_name}' does not exist in {self._config_dir}")
        with _refusals():
            places: object = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        for name in ("hydra", "searchpath"):
            places = places.get(name) if isinstance(places, dict) else None
        return places

    def groups(self) -> dict[str, list[str]]:
        """The options of each group."""
        folders = self.folders()
        return {name: list(option_files(folders, name)) for name in sorted(_groups_in(folders))}

    def _of_choices(self, choices: Sequence[Override], folders: Sequence[Path]) -> DictConfig:
        """A copy of what the options of the groups give."""
        texts = tuple(str(override.input_line) for override in choices)
        if texts not in self._composed:
            GlobalHydra.instance().hydra = self._hydra  # another composer may have been opened since
            with _refusals(folders):
                for override in choices:
                    _check_choice(override, option_files(folders, override.key_or_group))
                self._composed[texts] = hydra.compose(
                    self.config_name, [*search_path(folders[1:]), *texts], return_hydra_config=True
                )
        return copy.deepcopy(self._composed[texts])


def search_path(folders: Iterable[Path]) -> list[str]:
    """The override by which Hydra looks into these folders after the first one."""
    places = ",".join(quoted(f"file://{folder}") for folder in folders)
    return [f"hydra.searchpath=[{places}]"] if places else []


def _groups_in(folders: Sequence[Path]) -> set[str]:
    return {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}


def _several_values(override: Override) -> ConfigurationError:
    """The error for a key with several values, of which a job has one and what is about Hydra itself never has any."""
    key, _, value = str(override.input_line).partition("=")
    if not is_of_hydra(key):
        return SeveralValuesError(f"key '{key}' = {value}: several values need a sweep, written with -m")
    if swept := key.partition("hydra.sweeper.params.")[2]:
        return ConfigurationError(f"key '{key}' = {value}: is for YAML; on the command line write -m {swept}={value}")
    return ConfigurationError(f"key '{key}' = {value}: must be one value, the same for all jobs")


def is_choice(override: Override, folders: Sequence[Path]) -> bool:
    """Whether an override chooses an option of a group: Hydra applies it, before all others."""
    key = override.key_or_group
    return "/" in key or key in _groups_in(folders)


def _check_choice(override: Override, options: Collection[str]) -> None:
    """Refuses a group that is given a list, a number or null instead of one option, or that is chosen twice."""
    group = override.key_or_group
    if not options or override.is_delete():
        return
    if not isinstance(value := override.value(), str | dict):
        raise bad_value(group, value, f"one of {', '.join(options)}")
    if override.is_add():
        raise ConfigurationError(f"key '{group}': a group is chosen once; write it without +")


def _note_overrides(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Notes the overrides where Hydra notes them."""
    excluded = config.hydra.job.config.override_dirname.exclude_keys
    of_run = [override for override in overrides if not override.is_hydra_override()]
    config.hydra.overrides.task = [str(override.input_line) for override in of_run]
    known = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    assert isinstance(known, list)
    about_hydra = [str(override.input_line) for override in overrides if override.is_hydra_override()]
    config.hydra.overrides.hydra = [*known, *(text for text in about_hydra if text not in known)]
    named = [str(override.input_line) for override in of_run if override.key_or_group not in excluded]
    config.hydra.job.override_dirname = ",".join(sorted(named))


@contextlib.contextmanager
def _refusals(folders: Sequence[Path] = ()) -> Iterator[None]:
    """What Hydra, OmegaConf or YAML raises becomes one line: what they are given is the user's."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        raise _refusal(error, folders) from error


def _refusal(error: Exception, folders: Sequence[Path]) -> ConfigurationError:
    if isinstance(error, MissingConfigException):
        return _unknown_option(error, folders)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigurationError(f"file '{Path(mark.name)}', line {mark.line + 1}: YAML syntax error: {error.problem}")
    if isinstance(error, RecursionError):
        return ConfigurationError("the configuration is nested too deeply")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return ConfigurationError("the name of a group or of an option is too long for a file")
    cause = error.__cause__
    return ConfigurationError(one_line(error) if cause is None else f"{one_line(error)}: {one_line(cause)}")


def _unknown_option(error: MissingConfigException, folders: Sequence[Path]) -> ConfigurationError:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return ConfigurationError(f"configuration file '{option}' does not exist")
    options = list(error.options or option_files(folders, group))
    near = did_you_mean(option, options) or ";"
    name = option.removesuffix(".yaml")
    if group == "hydra/launcher" and name in _EXTRA_OF_LAUNCHER:
        extra = _EXTRA_OF_LAUNCHER[name]
        install = f'pip install "bbrl_exp[{extra}]"'
        return ConfigurationError(f"key 'launcher' needs the extra '{extra}', which is not installed: {install}")
    return ConfigurationError(f"key '{group}' = '{name}': no such option{near} allowed: {', '.join(options)}")


def asks_for_sweep(config: DictConfig) -> bool:
    """Whether the configuration itself, without ``-m``, describes a sweep or a search."""
    sweeper = config.hydra.sweeper
    describes_one = sweeper._target_ == SWEEPER or bool(sweeper.get("params"))
    return bool(config.hydra.mode == RunMode.MULTIRUN or (config.hydra.mode is None and describes_one))


def resolve(config: DictConfig) -> dict[str, Any]:
    """The configuration without its ``hydra`` node and what is switched off, interpolations resolved, as plain values.

    Raises:
        ConfigurationError: a value is missing (``???``), an interpolation leads nowhere, or a member is placed by one
            that is switched off.
    """
    HydraConfig.instance().set_config(config)
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        contents = OmegaConf.to_container(plain, resolve=True, throw_on_missing=True)
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        key = written_key(written(config), str(error.full_key))
        raise bad_value(key, "???", "given: it has no value") from error
    except InterpolationResolutionError as error:
        as_written = written(config)
        key = written_key(as_written, str(error.full_key))
        _check_choice_of_node(as_written, key)
        raise ConfigurationError(f"key '{key}': {_dead_end(error)}") from error
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigurationError(one_line(error)) from error
    return without_switched_off(
        {str(key): value for key, value in contents.items()} if isinstance(contents, dict) else {}
    )


def _dead_end(error: InterpolationResolutionError) -> str:
    """Why an interpolation leads nowhere."""
    reason = str(error).splitlines()[0]
    found = re.search(r"Error trying to access (\S+): node `(\S+)` is not a container", reason)
    if found is None:
        return reason
    what = "is switched off (null)" if is_of_nodes(found[2].rpartition(".")[0]) else "is null or a single value"
    return f"refers to '{found[1]}', and '{found[2]}' {what}; give it another value"


def _check_choice_of_node(contents: Mapping[str, Any], key: str) -> None:
    """Refuses the value of a key that chooses another node, as in ``${env.backends.${env.backend}}``, if it names none.

    Args:
        contents: the configuration as it is written.
        key: where the reference is written.

    Raises:
        ConfigurationError: it does; the message names those that there are.
    """
    choice = _CHOICE.fullmatch(str(value_at(contents, key)))
    if choice is None:
        return
    options, name = value_at(contents, choice[1]), value_at(contents, choice[2])
    if isinstance(options, Mapping) and (not isinstance(name, str) or name not in options):
        known = [str(option) for option in options]
        raise bad_value(choice[2], name, f"one of {', '.join(known)}{did_you_mean(str(name), known)}")


def folder_of(config: DictConfig, kind: Literal["run", "sweep"]) -> Path:
    """The folder of a run or of a sweep.

    Raises:
        ConfigurationError: it cannot be the path of a folder.
    """
    key = f"hydra.{kind}.dir"
    try:
        folder = Path(OmegaConf.select(config, key, throw_on_missing=True)).absolute()
    except (OmegaConfBaseException, TypeError) as error:
        raise ConfigurationError(f"key '{key}': {str(error).splitlines()[0]}") from error
    if not can_be_a_path(str(folder)):
        raise bad_value(key, str(folder), "the path of a folder, not too long for one")
    return folder


def written(config: DictConfig) -> dict[str, Any]:
    """The configuration without its ``hydra`` node, interpolations as they are written."""
    contents = OmegaConf.to_container(config, resolve=False)
    assert isinstance(contents, dict)
    return {str(key): value for key, value in contents.items() if key != "hydra"}


def is_named(config: DictConfig, kind: Literal["run", "sweep"]) -> bool:
    """Whether the user chose the folder, by ``name`` or by a path; by default it is named by date and time."""
    contents = OmegaConf.to_container(config.hydra[kind], resolve=False)
    assert isinstance(contents, dict)
    return config.name is not None or "${run_folder:" not in str(contents.get("dir"))


def written_key(contents: Mapping[str, Any], key: str) -> str:
    """Where the user writes what is found at ``key``: interpolations to whole nodes are followed.

    ``graph.agent.members.policy.seed`` becomes ``agent.members.policy.seed``. In ``${env.backends.${env.backend}}`` the
    inner one is replaced by its value first.

    Args:
        contents: the configuration as it is written, see :func:`written`.
        key: dotted.
    """
    seen: set[str] = set()
    while key not in seen:  # interpolations may lead to each other
        seen.add(key)
        parts = key.split(".")
        node: Any = contents
        for position, name in enumerate(parts):
            node = node.get(name) if isinstance(node, Mapping) else None
            if isinstance(node, str) and (choice := _CHOICE.fullmatch(node)) is not None:
                node = f"${{{choice[1]}.{value_at(contents, choice[2])}}}"
            whole = re.fullmatch(r"\$\{([A-Za-z_][\w.]*)\}", node) if isinstance(node, str) else None
            if whole is not None and _leads_somewhere(contents, whole[1]):
                key = ".".join([whole[1], *parts[position + 1 :]])
                break
    return key


def _leads_somewhere(contents: Mapping[str, Any], key: str) -> bool:
    """Whether something is written at ``key``, or one of its first parts refers to another place."""
    node: Any = contents
    for name in key.split("."):
        if isinstance(node, str):
            return True
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True


def quoted(text: str) -> str:
    r"""``text`` as a quoted value of Hydra's grammar, where ``\`` escapes ``'``, the end, and itself before them."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"


def quoted_where_needed(text: str) -> str:
    """``text`` as a value of Hydra's grammar, which reads most paths as they are."""
    return text if re.fullmatch(r"[\w./+-]*[A-Za-z/][\w./+-]*", text, re.ASCII) else quoted(text)
