"""Sweeps: their jobs, the process that each of them has, the launchers that hand them out, the table at the end."""
