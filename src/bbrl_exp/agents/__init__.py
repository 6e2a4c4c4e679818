"""Agents and the ways to combine them."""

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.agents.tools import CopyTAgent, EpisodesDone, KWAgentWrapper, PrintAgent

__all__ = ["Agent", "Agents", "CopyTAgent", "EpisodesDone", "KWAgentWrapper", "PrintAgent", "TemporalAgent"]
