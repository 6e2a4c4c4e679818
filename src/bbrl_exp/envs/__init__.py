"""Environments as agents."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bbrl_exp.envs.gym_agents import AutoResetGymAgent, NoAutoResetGymAgent
    from bbrl_exp.envs.spec import EnvSpec, LeafSpec
    from bbrl_exp.envs.wrappers import MaskObservation

__all__ = ["AutoResetGymAgent", "EnvSpec", "LeafSpec", "MaskObservation", "NoAutoResetGymAgent"]

_HOMES = {
    "AutoResetGymAgent": "gym_agents",
    "NoAutoResetGymAgent": "gym_agents",
    "EnvSpec": "spec",
    "LeafSpec": "spec",
    "MaskObservation": "wrappers",
}


def __getattr__(name: str) -> Any:
    # Worker processes import this package and must not import torch: nothing is loaded before it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
