"""Reinforcement-learning experiments in which every part is an agent that reads and writes a workspace.

The names below are loaded when they are first used, so that environment workers, ``--help`` and shell completion start
without PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bbrl_exp.bbrl_names import explain_missing_modules, missing

if TYPE_CHECKING:
    from bbrl_exp.agents.agent import Agent as Agent
    from bbrl_exp.agents.combinators import Agents as Agents
    from bbrl_exp.agents.combinators import TemporalAgent as TemporalAgent
    from bbrl_exp.data.replay import ReplayBuffer as ReplayBuffer
    from bbrl_exp.data.transitions import align as align
    from bbrl_exp.envs.environment_agent import EnvironmentAgent as EnvironmentAgent
    from bbrl_exp.envs.gym_agents import AutoResetGymAgent as AutoResetGymAgent
    from bbrl_exp.envs.gym_agents import NoAutoResetGymAgent as NoAutoResetGymAgent
    from bbrl_exp.envs.spec import EnvSpec as EnvSpec
    from bbrl_exp.envs.spec import LeafSpec as LeafSpec
    from bbrl_exp.errors import BbrlExpError as BbrlExpError
    from bbrl_exp.errors import ConfigurationError as ConfigurationError
    from bbrl_exp.learners.learner import Learner as Learner
    from bbrl_exp.learners.learner import Progress as Progress
    from bbrl_exp.reports.run_folder import load_runs as load_runs
    from bbrl_exp.runs.policy import evaluate as evaluate
    from bbrl_exp.runs.policy import load_policy as load_policy
    from bbrl_exp.runs.run import build_graph as build_graph
    from bbrl_exp.runs.run import run as run
    from bbrl_exp.sweeps.sweep import sweep as sweep
    from bbrl_exp.tracking.sink import Sink as Sink
    from bbrl_exp.workspace import Workspace as Workspace

__version__ = "0.1.0"

_HOMES = {
    "Agent": "bbrl_exp.agents.agent",
    "Agents": "bbrl_exp.agents.combinators",
    "AutoResetGymAgent": "bbrl_exp.envs.gym_agents",
    "BbrlExpError": "bbrl_exp.errors",
    "ConfigurationError": "bbrl_exp.errors",
    "EnvSpec": "bbrl_exp.envs.spec",
    "EnvironmentAgent": "bbrl_exp.envs.environment_agent",
    "LeafSpec": "bbrl_exp.envs.spec",
    "Learner": "bbrl_exp.learners.learner",
    "NoAutoResetGymAgent": "bbrl_exp.envs.gym_agents",
    "Progress": "bbrl_exp.learners.learner",
    "ReplayBuffer": "bbrl_exp.data.replay",
    "Sink": "bbrl_exp.tracking.sink",
    "TemporalAgent": "bbrl_exp.agents.combinators",
    "Workspace": "bbrl_exp.workspace",
    "align": "bbrl_exp.data.transitions",
    "build_graph": "bbrl_exp.runs.run",
    "evaluate": "bbrl_exp.runs.policy",
    "load_policy": "bbrl_exp.runs.policy",
    "load_runs": "bbrl_exp.reports.run_folder",
    "run": "bbrl_exp.runs.run",
    "sweep": "bbrl_exp.sweeps.sweep",
}

__all__ = sorted(_HOMES)

_missing = missing(__name__)
explain_missing_modules()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        _missing(name)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
