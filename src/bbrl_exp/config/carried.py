"""A configuration that one of Hydra's launchers has composed, on its way to the process of its job, as plain values.

Hydra loads the modules of its plugins again whenever it looks for plugins, so that the classes of a configuration's
nodes need not be those that another process, or a later moment, knows by the same names.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.config.compose import register
from bbrl_exp.config.identity import task_overrides


@dataclass(frozen=True)
class CarriedJob:
    """A job that a launcher has composed, not checked yet.

    Attributes:
        content: the configuration, with its ``hydra`` node, as it is written.
        folder: of the job.
        overrides: of the job.
    """

    content: bytes
    folder: Path
    overrides: tuple[str, ...]

    @classmethod
    def of(cls, config: DictConfig) -> CarriedJob:
        """The job for which Hydra has called its task function.

        Args:
            config: what it was called with.
        """
        hydra = HydraConfig.get()
        plain = {**_plain(config), "hydra": _plain(hydra)}
        return cls(pickle.dumps(plain), Path(hydra.runtime.output_dir), task_overrides(hydra))

    def check(self) -> CheckedRun:
        """The job as it is checked everywhere.

        Raises:
            ConfigurationError: something cannot be used.
        """
        register()
        config = self.config()
        HydraConfig.instance().set_config(config)
        return check(config)

    def config(self) -> DictConfig:
        """The configuration; below ``hydra`` only the node itself has a type."""
        plain: dict[str, Any] = pickle.loads(self.content)
        hydra = plain.pop("hydra")
        config = DictConfig(plain)
        OmegaConf.set_struct(config, True)
        typed = OmegaConf.structured(HydraConf)
        OmegaConf.set_struct(typed, False)  # options may have added keys that the class does not have
        with open_dict(config):
            config.hydra = OmegaConf.merge(typed, hydra)
        return config


def _plain(config: object) -> dict[str, Any]:
    contents = OmegaConf.to_container(config, resolve=False)
    assert isinstance(contents, dict)
    return {str(key): value for key, value in contents.items()}
