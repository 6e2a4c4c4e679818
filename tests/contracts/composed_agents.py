"""The configurations of the agents that are shipped."""

import functools
from typing import Any

from bbrl_exp.config.compose import Composer, resolve
from bbrl_exp.config.options import default_config_dir


@functools.cache
def composed(agent: str, batch_size: int) -> dict[str, Any]:
    """The configuration of an agent in an environment that fits; copy it before you change it."""
    with Composer(default_config_dir()) as composer:
        config = composer.compose([f"agent={agent}", f"batch_size={batch_size}"])
        if config["agent"]["action_space"] == "continuous":
            config = composer.compose([f"agent={agent}", "env=pendulum", f"batch_size={batch_size}"])
        return resolve(config)
