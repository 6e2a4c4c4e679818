"""Packages that register well-known environments: found by the id, and imported when an id needs them."""

from __future__ import annotations

import importlib
import re

from bbrl_exp.envs.atari import register_atari
from bbrl_exp.errors import ConfigurationError, described, user_code
from bbrl_exp.seeding import untouched_global_generators

# What the ids of a package begin with, its module, and the extra that installs it.
_PLUGINS = (
    (re.compile(r"(MiniGrid|BabyAI)-"), "minigrid", "minigrid"),
    (re.compile(r"ALE/|Atari/|\w+NoFrameskip-v"), "ale_py", "atari"),
    (re.compile(r"popgym-"), "popgym", "popgym"),
)


def import_plugin_of(env_id: str) -> None:
    """Imports the package that registers an id, if it is a well-known one; importing changes no random stream.

    Raises:
        ConfigurationError: it is not installed, or cannot be imported.
    """
    for pattern, module, extra in _PLUGINS:
        if pattern.match(env_id) is None:
            continue
        try:
            with untouched_global_generators(), user_code(module):
                importlib.import_module(module)
                if extra == "atari":
                    register_atari()
        except ModuleNotFoundError as error:
            if error.name != module:
                raise ConfigurationError(
                    f"env '{env_id}': {module} needs the package '{error.name}', which is not installed"
                ) from error
            raise ConfigurationError(
                f"env '{env_id}': needs the extra '{extra}', which is not installed: pip install \"bbrl_exp[{extra}]\""
            ) from error
        except Exception as error:
            raise ConfigurationError(f"env '{env_id}': {module} cannot be imported: {described(error)}") from error
