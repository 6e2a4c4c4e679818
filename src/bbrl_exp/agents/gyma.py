"""The environment agents under the import path that BBRL programs know."""

from bbrl_exp.envs.gym_agents import AutoResetGymAgent, NoAutoResetGymAgent

__all__ = ["AutoResetGymAgent", "NoAutoResetGymAgent"]
