"""Agents and the ways to combine them."""

from typing import TYPE_CHECKING

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.agents.tools import CopyTAgent, EpisodesDone, KWAgentWrapper, PrintAgent
from bbrl_exp.bbrl_names import missing

__all__ = ["Agent", "Agents", "CopyTAgent", "EpisodesDone", "KWAgentWrapper", "PrintAgent", "TemporalAgent"]

if not TYPE_CHECKING:
    __getattr__ = missing(__name__)
