"""Processes that serve this one: how they are started, talked to, watched and ended."""
