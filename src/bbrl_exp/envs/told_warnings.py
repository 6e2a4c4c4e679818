"""MuJoCo's warnings, each printed once per process. Left alone, every environment prints them, also to a file."""

from __future__ import annotations

import logging
import re
import sys

_LOGGER = logging.getLogger("mujoco")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")
_told: set[str] = set()


def tell_mujoco_warnings_once() -> None:
    """Sends MuJoCo's warnings to the logger ``mujoco``, if it is imported and nobody else listens to them.

    Warnings that differ in their numbers only, such as the times at which a simulation was unstable, count as one.
    """
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_tell)


def forget_told_warnings() -> None:
    """Lets every warning be printed again, to a log that has not seen it."""
    _told.clear()


def _tell(message: str) -> None:
    kind = _NUMBER.sub("#", message)
    if kind not in _told:
        _told.add(kind)
        _LOGGER.warning("%s", message)
