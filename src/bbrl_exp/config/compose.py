"""Composition of a configuration by Hydra, with every refusal of Hydra told in one line of ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode, TaskFunction
from hydra.version import VersionBase
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import YAMLError  # type: ignore[import-untyped]

from bbrl_exp.config.config_loader import RememberingConfigLoader
from bbrl_exp.config.hydra_node import check_hydra_node, check_search_path
from bbrl_exp.config.refusals import refusal
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.layout import job_folder_name, run_folder_name
from bbrl_exp.settings import bad_value
from bbrl_exp.text import one_line

VERSION_BASE = "1.3"
COMMAND_LINE = "command-line"  # who provides a folder of options that the user has named
_NOTHING = object()


def register_resolvers() -> None:
    """Makes the resolvers known that ``conf/config.yaml`` uses: ``run_folder`` and ``job_folder``."""
    OmegaConf.register_new_resolver("run_folder", run_folder_name, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("job_folder", job_folder_name, replace=True)


class Composer:
    """Reads a configuration folder through Hydra, and puts Hydra's global state back at the end.

    Args:
        config_dir: the folder of ``config.yaml``.
        config_name: the root file, without ``.yaml``.
        extra_dir: a user's own folder (``--config-dir``).

    Raises:
        ConfigurationError: a folder is not there.
    """

    def __init__(self, config_dir: Path, config_name: str = "config", extra_dir: Path | None = None) -> None:
        register_resolvers()
        for folder in (config_dir, extra_dir):
            if folder is not None and not folder.is_dir():
                raise ConfigurationError(f"configuration folder {folder} is not there")
        search_path = create_config_search_path(str(config_dir.resolve()))
        if extra_dir is not None:
            search_path.prepend(COMMAND_LINE, f"file://{extra_dir.resolve()}", SearchPathQuery(provider="schema"))
        self._previous = (
            GlobalHydra.instance().hydra,
            HydraConfig.instance().cfg,
            VersionBase.instance().version_base,
        )
        version.setbase(VERSION_BASE)
        GlobalHydra.instance().clear()
        self.config_name = config_name
        self.hydra = Hydra.create_main_hydra2(task_name="run", config_search_path=search_path)
        self.hydra.config_loader = RememberingConfigLoader(search_path)

    def close(self) -> None:
        """Puts Hydra's global state back."""
        hydra, config, version_base = self._previous
        GlobalHydra.instance().hydra = hydra
        HydraConfig.instance().cfg = config
        VersionBase.instance().version_base = version_base

    def __enter__(self) -> Composer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def compose(self, overrides: Sequence[str], *, multirun: bool = False) -> DictConfig:
        """The configuration with its ``hydra`` node.

        Raises:
            ConfigurationError: it cannot be composed; the message names key, value and what is allowed.
        """
        self.check_search_path(overrides)
        self._check_choices(overrides)
        with self._refusals(overrides):
            config: DictConfig = self.hydra.compose_config(
                config_name=self.config_name,
                overrides=list(overrides),
                run_mode=RunMode.MULTIRUN if multirun else RunMode.RUN,
                with_log_configuration=False,
            )
            check_hydra_node(config)
        return config

    def compose_job(self, master: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """The configuration of one job of the sweep whose own configuration is ``master``.

        Raises:
            ConfigurationError: it cannot be composed.
        """
        self._check_choices(overrides)
        with self._refusals(overrides):
            config: DictConfig = self.hydra.config_loader.load_sweep_config(master, list(overrides))
            check_hydra_node(config)
        return config

    def groups(self) -> dict[str, list[str]]:
        """The options of each of our groups."""
        loader = self.hydra.config_loader
        return {name: loader.get_group_options(name) for name in loader.list_groups("") if name != "hydra"}

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """The overrides as Hydra's grammar reads them.

        Raises:
            ConfigurationError: one of them cannot be read.
        """
        with self._refusals(overrides):
            parsed: list[Override] = OverridesParser.create(self.hydra.config_loader).parse_overrides(list(overrides))
        return parsed

    def asks_for_multirun(self, overrides: Sequence[str]) -> bool:
        """Whether the configuration itself says ``hydra.mode=MULTIRUN``.

        Raises:
            ConfigurationError: the search path of configurations is refused.
        """
        self.check_search_path(overrides)
        return bool(self.hydra.get_mode(self.config_name, list(overrides)) == RunMode.MULTIRUN)

    def check_search_path(self, overrides: Sequence[str]) -> None:
        """Refuses ``hydra.searchpath``, in the overrides or the root file, where it would import a package.

        Raises:
            ConfigurationError: it would.
        """
        with self._refusals(overrides):
            for override in self.parse(overrides):
                if override.get_key_element() == "hydra.searchpath":
                    check_search_path(override.value())
            loader = self.hydra.config_loader
            assert isinstance(loader, ConfigLoaderImpl)
            root = loader.repository.load_config(self.config_name)
            places = OmegaConf.select(root.config, "hydra.searchpath") if root is not None else None
            check_search_path(
                OmegaConf.to_container(places, resolve=True) if isinstance(places, ListConfig) else places
            )

    def launch(self, task: TaskFunction, overrides: Sequence[str]) -> None:
        """Runs ``task`` as Hydra's job in the folder ``hydra.run.dir``."""
        self.hydra.run(config_name=self.config_name, task_function=task, overrides=list(overrides))

    def _check_choices(self, overrides: Sequence[str]) -> None:
        """Refuses a group that is given a list, a number or null instead of one option."""
        for override in self.parse(overrides):
            options = self.hydra.config_loader.get_group_options(override.key_or_group)
            if override.is_sweep_override() or override.is_delete() or not options:
                continue
            if not isinstance(value := override.value(), str | dict):
                raise bad_value(override.key_or_group, value, f"one of {', '.join(options)}")

    @contextlib.contextmanager
    def _refusals(self, overrides: Sequence[str]) -> Iterator[None]:
        try:
            yield
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            raise refusal(error, lambda: self._defaults(overrides)) from error

    def _defaults(self, overrides: Sequence[str]) -> DictConfig | None:
        """The configuration with the chosen groups alone, to tell which keys there are; None if that fails too."""
        groups = set(self.hydra.config_loader.list_groups(""))
        kept = [text for text in overrides if (key := text.partition("=")[0]) in groups or key.startswith("hydra/")]
        try:
            config: DictConfig = self.hydra.compose_config(
                config_name=self.config_name, overrides=kept, run_mode=RunMode.RUN, with_log_configuration=False
            )
        except Exception:
            return None
        return config


def resolve(config: DictConfig) -> dict[str, Any]:
    """The configuration without its ``hydra`` node, interpolations resolved, as plain dicts and lists.

    Raises:
        ConfigurationError: a value is missing (``???``) or an interpolation leads nowhere.
    """
    HydraConfig.instance().set_config(config)
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        contents = OmegaConf.to_container(plain, resolve=True, throw_on_missing=True)
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        named = re.search(r"Missing mandatory value: (\S+)", str(error))
        raise bad_value(named[1] if named else str(error.full_key), "???", "given: no value stands there") from error
    except InterpolationResolutionError as error:
        key = written_key(config, str(error.full_key))
        raise ConfigurationError(f"key '{key}': {str(error).splitlines()[0]}") from error
    except OmegaConfBaseException as error:
        raise ConfigurationError(one_line(error)) from error
    return {str(key): value for key, value in contents.items()} if isinstance(contents, dict) else {}


def written_key(config: DictConfig, key: str) -> str:
    """Where the user writes what stands at ``key``: interpolations to whole nodes are followed.

    ``graph.agent.members.policy.seed`` becomes ``agent.members.policy.seed``.
    """
    parts = key.split(".")
    position, depth = 1, len(parts)
    while position <= depth:
        node = OmegaConf.select(config, ".".join(parts[: position - 1])) if position > 1 else config
        raw = node._get_node(parts[position - 1], validate_access=False) if isinstance(node, DictConfig) else None
        text = raw._value() if isinstance(raw, Node) else None
        match = re.fullmatch(r"\$\{([A-Za-z_][\w.]*)\}", text) if isinstance(text, str) else None
        if match is not None and _is_there(config, match[1]):
            parts = [*match[1].split("."), *parts[position:]]
            position, depth = 1, len(parts)
        else:
            position += 1
    return ".".join(parts)


def _is_there(config: DictConfig, key: str) -> bool:
    """Whether something stands at ``key``, be it an interpolation that leads nowhere."""
    try:
        return bool(OmegaConf.select(config, key, default=_NOTHING) is not _NOTHING)
    except OmegaConfBaseException:
        return True


def is_named(config: DictConfig, kind: Literal["run", "sweep"]) -> bool:
    """Whether the user chose the folder, by ``name`` or by a path; else its name is date and time."""
    written = OmegaConf.to_container(config.hydra[kind], resolve=False)
    assert isinstance(written, dict)
    return config.name is not None or "${run_folder:" not in str(written["dir"])


def quoted(text: str) -> str:
    r"""``text`` as a quoted value of Hydra's grammar, where ``\`` escapes ``'``, the end, and itself before them."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"
