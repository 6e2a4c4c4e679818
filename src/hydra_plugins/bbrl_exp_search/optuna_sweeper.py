"""Hydra's sweeper for searches, and its configuration ``hydra/sweeper=optuna``.

Hydra imports this module at every start of every program: what works is imported where it is used.
"""

from dataclasses import asdict, dataclass

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from bbrl_exp.config.search_settings import SWEEPER, SearchSettings
from bbrl_exp.search.command import sweep


@dataclass
class OptunaSweeper(SearchSettings, Sweeper):
    """Searches in a space with Optuna's samplers, see ``docs/search.md``."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes what Hydra hands over; runs are those of bbrl_exp, whatever the task function."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> int:
        """Searches, and gives the exit code.

        Args:
            arguments: the overrides of the command line.

        Raises:
            ConfigurationError: something cannot be used; nothing was made.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        return sweep(self.hydra_context, self.config, arguments)


# Plain, for the configuration travels to other processes, and Hydra imports this module anew in each.
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="optuna",
    node={"_target_": SWEEPER, **asdict(SearchSettings())},
    provider="bbrl_exp",
)
