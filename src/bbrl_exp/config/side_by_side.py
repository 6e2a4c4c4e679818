"""The launcher that trains jobs side by side in one process: its keys below ``hydra.launcher``.

Hydra imports this module at every start: it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bbrl_exp.settings import bad_value, integer

SIDE_BY_SIDE = "side_by_side"
TARGET = "bbrl_exp.sweeps"  # names the launcher; Hydra never makes it
NODE: Mapping[str, Any] = {"_target_": TARGET, "jobs_per_stack": 32}
_JOBS = integer(2)


def check_side_by_side(node: Mapping[str, Any]) -> None:
    """Refuses a value that is not allowed.

    Args:
        node: what is written below ``hydra.launcher``.

    Raises:
        ConfigurationError: there is one.
    """
    if not _JOBS.accepts(node["jobs_per_stack"]):
        raise bad_value("hydra.launcher.jobs_per_stack", node["jobs_per_stack"], _JOBS.words)
