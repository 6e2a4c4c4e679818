"""The blackboard that agents read and write, and what its rows are stored in."""

from bbrl_exp.workspace.workspace import BatchDims, RowFacts, RowReader, RowWriter, Workspace

__all__ = ["BatchDims", "RowFacts", "RowReader", "RowWriter", "Workspace"]
