"""The way into a search, by Hydra's interface of sweepers; light, for Hydra imports it at every start."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig

from bbrl_exp.config.schema import check_keys
from bbrl_exp.config.search_settings import SWEEPER, SearchSettings
from bbrl_exp.errors import ConfigurationError

if TYPE_CHECKING:
    from bbrl_exp.config.compose import Composer


@dataclass
class SearchContext(HydraContext):
    """What Hydra hands to a sweeper, with what composes our configurations."""

    composer: Composer


def is_search(config: DictConfig) -> bool:
    """Whether the sweeper of a composed configuration is that of searches."""
    return bool(config.hydra.sweeper._target_ == SWEEPER)


def search(composer: Composer, master: DictConfig, overrides: Sequence[str]) -> int:
    """Lets Hydra make the sweeper that the configuration names, and lets it search.

    Args:
        composer: of configurations.
        master: that of the search.
        overrides: of the command line, all of them.

    Returns:
        The exit code: 0 where every trial is complete or was pruned, 1 where one failed, 128+n where signal n came.

    Raises:
        ConfigurationError: something cannot be used, and nothing was made; or Optuna is not installed.
    """
    check_keys(master.hydra.sweeper, [*(key.name for key in fields(SearchSettings)), "_target_"], "hydra.sweeper")
    context = SearchContext(composer.hydra.config_loader, Callbacks(), composer)
    sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=_nothing, config=master)
    return int(sweeper.sweep(list(overrides)))


def sweep(context: HydraContext, master: DictConfig, overrides: Sequence[str]) -> int:
    """What the sweeper does, see :func:`search`.

    Raises:
        ConfigurationError: as for ``search``; or another program than ours asks.
    """
    if not isinstance(context, SearchContext):
        raise ConfigurationError("hydra/sweeper=optuna of bbrl_exp searches through scripts/run.py only")
    if importlib.util.find_spec("optuna") is None:
        raise ConfigurationError(
            "a search needs the extra 'search', which is not installed: pip install \"bbrl_exp[search]\""
        )
    from bbrl_exp.search.sweeping import plan_and_search

    return plan_and_search(context.composer, master, overrides)


def _nothing(config: DictConfig) -> None:
    """The task function of a search: its jobs run through that of sweeps."""
