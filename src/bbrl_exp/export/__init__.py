"""Policies for other programs: one file, a network for other runtimes, a folder to publish."""
