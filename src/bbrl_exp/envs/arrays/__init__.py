"""Environments whose whole batch is a few arrays: compiled with numba for the CPU, or as tensors on any device."""
