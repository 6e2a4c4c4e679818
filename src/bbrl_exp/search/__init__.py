"""Searches for the best settings: spaces, samplers, pruners, and the study that keeps the trials."""
