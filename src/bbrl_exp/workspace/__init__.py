"""The blackboard that agents read and write, and how it is stored."""

from typing import TYPE_CHECKING

from bbrl_exp.bbrl_names import missing
from bbrl_exp.workspace.rows import RowFacts, RowReader, RowWriter
from bbrl_exp.workspace.storage import BatchDims
from bbrl_exp.workspace.workspace import Workspace

__all__ = ["BatchDims", "RowFacts", "RowReader", "RowWriter", "Workspace"]

if not TYPE_CHECKING:
    __getattr__ = missing(__name__)
