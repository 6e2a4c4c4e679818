"""Whether an environment can show pictures of itself."""

from __future__ import annotations

import os

from bbrl_exp.envs.make import Env
from bbrl_exp.errors import ConfigurationError

PICTURES = "rgb_array"
_MUJOCO = "gymnasium.envs.mujoco."


def prepare_pictures() -> None:
    """Keeps SDL from looking for a display, which pictures do not need."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def check_pictures(name: str, environment: Env) -> None:
    """Refuses an environment that shows no pictures, or ends the process where there is no display.

    Raises:
        ConfigurationError: it does.
    """
    if PICTURES not in environment.metadata.get("render_modes", ()):
        raise ConfigurationError(f"{name} cannot be animated: it shows no pictures ({PICTURES})")
    is_mujoco = type(environment.unwrapped).__module__.startswith(_MUJOCO)
    if is_mujoco and not os.environ.get("DISPLAY") and "MUJOCO_GL" not in os.environ:
        raise ConfigurationError(f"{name} cannot be animated without a display unless MUJOCO_GL=egl is set")
