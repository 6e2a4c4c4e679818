"""Learners: what turns a workspace into an update, one algorithm a file."""
