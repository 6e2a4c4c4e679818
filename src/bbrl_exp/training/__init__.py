"""Loops that run a graph of agents: plain functions, which log and save nothing themselves."""
