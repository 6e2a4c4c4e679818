"""Hydra's plug-in for searches: ``hydra/sweeper=optuna``."""
