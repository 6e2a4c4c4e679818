"""A composed configuration on its way to another process, as plain dicts and lists.

Hydra loads the modules of its plugins anew whenever it looks for plugins, so that the classes of a configuration's
nodes need not be those that another process, or a later moment, knows by the same names.
"""

from __future__ import annotations

import pickle
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf, open_dict


def packed(config: DictConfig) -> bytes:
    """The configuration as it is written, interpolations and all.

    Args:
        config: composed, with its ``hydra`` node.
    """
    return pickle.dumps(OmegaConf.to_container(config, resolve=False))


def unpacked(content: bytes) -> DictConfig:
    """The configuration that :func:`packed` was given; below ``hydra`` only the node itself has a type."""
    plain: dict[str, Any] = pickle.loads(content)
    hydra = plain.pop("hydra")
    config = DictConfig(plain)
    OmegaConf.set_struct(config, True)
    typed = OmegaConf.structured(HydraConf)
    OmegaConf.set_struct(typed, False)  # options may have added keys that the class does not have
    with open_dict(config):
        config.hydra = OmegaConf.merge(typed, hydra)
    return config
