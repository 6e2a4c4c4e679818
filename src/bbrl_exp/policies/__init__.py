"""Agents that write ``action``."""
