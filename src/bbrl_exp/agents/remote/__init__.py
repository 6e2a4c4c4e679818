"""Agents that run in other processes."""

from bbrl_exp.agents.remote.agents import AsynchronousAgent, NRemoteAgent, RemoteAgent

__all__ = ["AsynchronousAgent", "NRemoteAgent", "RemoteAgent"]
