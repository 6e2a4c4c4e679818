"""The front door: configuration, run folders, sweeps. Hydra and OmegaConf are imported nowhere else."""
