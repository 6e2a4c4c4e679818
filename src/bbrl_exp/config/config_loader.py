"""Hydra's loader of configurations with a memory: jobs of a sweep differ little, and most of each is known already."""

from __future__ import annotations

import copy
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

_SEARCH_PATH = "hydra.searchpath"


class RememberingConfigLoader(ConfigLoaderImpl):
    """Reads each file once, and puts each choice of options together once.

    What it gives is equal to what Hydra's own loader gives, as long as nobody edits the files meanwhile. Where the
    search path is set by an override or by the root file it remembers nothing.

    Args:
        search_path: where the configuration lies.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self._shared: CachingConfigRepository | None = None
        self._composed: dict[tuple[Any, ...], DictConfig] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: no memories."""
        return {**self.__dict__, "_shared": None, "_composed": {}}

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """The options of a group; Hydra's own loader copies all its sources for every such question."""
        if config_name is None and not overrides:
            return self.repository.get_group_options(group_name, results_filter)
        options: list[str] = super().get_group_options(group_name, results_filter, config_name, overrides)
        return options

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        if self._shared is None or any(_SEARCH_PATH in text for text in overrides):
            parsed, repository = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
            if config_name is not None and _is_plain(repository, config_name, overrides):
                self._shared = repository
            return parsed, repository
        from hydra.core.override_parser.overrides_parser import OverridesParser

        return OverridesParser.create().parse_overrides(overrides=overrides), self._shared

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        loaded = super()._load_single_config(default, repo)
        if repo is not self._shared:
            return loaded
        # Hydra merges later files into the nodes of earlier ones: what is remembered must not be among them.
        own = copy.copy(loaded)
        own.config = copy.deepcopy(loaded.config)
        return own

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        if repo is not self._shared:
            return super()._compose_config_from_defaults_list(defaults, repo)
        known_as = tuple((default.config_path, default.package, default.is_self) for default in defaults)
        if known_as not in self._composed:
            self._composed[known_as] = super()._compose_config_from_defaults_list(defaults, repo)
        return copy.deepcopy(self._composed[known_as])


def _is_plain(repository: CachingConfigRepository, config_name: str, overrides: list[str]) -> bool:
    root = repository.load_config(config_name)
    in_root = None if root is None else OmegaConf.select(root.config, _SEARCH_PATH)
    return in_root is None and not any(_SEARCH_PATH in text for text in overrides)
