"""Configurations: what Hydra composes, checked, and the graph and the learner that it describes."""
