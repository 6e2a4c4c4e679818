"""Where and how a sweep runs, by the configuration of the first of its jobs that can be composed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.compose import Composer, folder_of, is_named, quoted
from bbrl_exp.config.hydra_node import launcher_name
from bbrl_exp.config.overrides import Override, is_of_hydra, parse
from bbrl_exp.config.search_settings import SWEEPER
from bbrl_exp.config.switched_off import is_of_nodes
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.claim import FolderClaim, claim_new_folder
from bbrl_exp.records.layout import SWEEP_CONFIG


@dataclass(frozen=True)
class SweepConfig:
    """What the command line asks for.

    Attributes:
        config: of the first job that can be composed, with its ``hydra`` node.
        of_hydra: the overrides that are about Hydra itself, which all jobs have.
        typed: the other ones.
    """

    config: DictConfig
    of_hydra: tuple[str, ...]
    typed: tuple[Override, ...]

    @classmethod
    def of(cls, composer: Composer, overrides: Sequence[str]) -> SweepConfig:
        """Reads the overrides of a sweep or a search.

        Raises:
            ConfigurationError: no job can be composed.
        """
        of_hydra = tuple(text for text in overrides if is_of_hydra(text))
        typed = tuple(parse([text for text in overrides if text not in of_hydra]))
        typed = tuple(_added_if_new(composer, of_hydra, typed, override) for override in typed)
        errors: dict[str, None] = {}
        for job in _points(typed):
            try:
                config = composer.compose([*of_hydra, *job], is_job=True)
            except ConfigurationError as error:
                errors[str(error)] = None
            else:
                HydraConfig.instance().set_config(config)
                return cls(config, of_hydra, typed)
        raise refusal_of_all(list(errors))

    @property
    def is_search(self) -> bool:
        """Whether the jobs are those of a search."""
        return bool(self.config.hydra.sweeper._target_ == SWEEPER)

    @property
    def is_shown_only(self) -> bool:
        """Whether ``dry_run=true``."""
        return OmegaConf.select(self.config, "dry_run") is True

    @property
    def launcher(self) -> str:
        """The name of the launcher in Hydra's group ``hydra/launcher``."""
        return launcher_name(self.config)

    @property
    def n_jobs(self) -> int | None:
        """Jobs at once of the launcher of joblib, as it is configured; None for other launchers."""
        return int(self.config.hydra.launcher.n_jobs) if self.launcher == "joblib" else None

    @property
    def jobs_per_stack(self) -> int:
        """Most jobs of a stack of the launcher side_by_side."""
        return int(self.config.hydra.launcher.jobs_per_stack)

    @property
    def sweeper(self) -> dict[str, Any]:
        """What is configured below ``hydra.sweeper``."""
        contents = OmegaConf.to_container(self.config.hydra.sweeper, resolve=True)
        assert isinstance(contents, dict)
        return {str(key): value for key, value in contents.items()}

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return folder_of(self.config, "sweep")

    def claim(self) -> FolderClaim:
        """Claims the sweep's folder, or a new one beside it where the sweep has no name."""
        return FolderClaim(self.folder) if is_named(self.config, "sweep") else claim_new_folder(self.folder)

    def in_folder(self, composer: Composer, folder: Path) -> SweepConfig:
        """The same sweep with the folder that it has claimed, and its configuration in that folder."""
        typed = [str(override.input_line) for override in self.typed]
        found = SweepConfig.of(composer, [*self.of_hydra, f"hydra.sweep.dir={quoted(str(folder))}", *typed])
        OmegaConf.save(found.config, folder / SWEEP_CONFIG)
        return found


def values_of(override: Override) -> list[str]:
    """The overrides that an override stands for: one for each value of a sweep.

    Raises:
        ConfigurationError: it is a sweep over an empty list.
    """
    key = override.get_key_element()
    if not override.is_sweep_override():
        is_bare = override.is_delete() and override.value() is None
        return [key if is_bare else f"{key}={override.get_value_element_as_str()}"]
    texts = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not texts:
        raise ConfigurationError(f"override '{override.input_line}': has no values")
    return texts


def _added_if_new(
    composer: Composer, of_hydra: Sequence[str], typed: Sequence[Override], override: Override
) -> Override:
    """A sweep over a new node and null, ``env.wrappers.stack=null,{…}``, with the ``+`` that each node alone needs."""
    key = override.key_or_group
    parent_key, _, name = key.rpartition(".")
    if override.is_add() or not is_of_nodes(parent_key) or not override.is_discrete_sweep():
        return override
    if not any(isinstance(value, dict) and "_target_" in value for value in override.sweep_iterator()):
        return override
    for job in _points([other for other in typed if other is not override]):
        with contextlib.suppress(ConfigurationError):
            nodes = OmegaConf.select(composer.compose([*of_hydra, *job], is_job=True), parent_key)
            is_new = isinstance(nodes, DictConfig) and name not in nodes
            return override if not is_new else parse([f"+{override.input_line}"])[0]
    return override


def refusal_of_all(errors: Sequence[str]) -> ConfigurationError:
    """The error of a sweep each of whose jobs has an error, from the different ones."""
    return ConfigurationError(errors[0] if len(errors) == 1 else f"no job of the sweep can run: {'; '.join(errors)}")


def _points(typed: Sequence[Override]) -> Iterator[tuple[str, ...]]:
    """The overrides of each job; intervals, of which only a search has any use, are left out."""
    finite = [each for each in typed if not each.is_sweep_override() or each.is_discrete_sweep()]
    yield from product(*map(values_of, finite))
