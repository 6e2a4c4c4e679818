"""The environment agents under the import path that BBRL programs know."""

from typing import TYPE_CHECKING

from bbrl_exp.bbrl_names import missing
from bbrl_exp.envs.gym_agents import AutoResetGymAgent, NoAutoResetGymAgent

__all__ = ["AutoResetGymAgent", "NoAutoResetGymAgent"]

if not TYPE_CHECKING:
    __getattr__ = missing(__name__)
