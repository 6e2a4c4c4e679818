"""Rows as arrays, filled in place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.multiprocessing
from numbered import row, table

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import Workspace


def test_a_row_writer_records_only_what_was_committed() -> None:
    workspace = Workspace()
    writer = workspace.row_writer({"x": ((3,), np.float32), "flag": ((3,), np.bool_)})
    for t in range(40):
        x, flag = writer.rows(t)
        x[:], flag[:] = row(t).numpy(), t % 2 == 0
        writer.commit(t)
    writer.rows(40)
    assert torch.equal(workspace["x"], table(40))
    assert workspace["flag"][:, 0].tolist() == [t % 2 == 0 for t in range(40)]
    with pytest.raises(WorkspaceError, match="x, flag at t=42: a write at t=42 would leave a gap"):
        writer.rows(42)


def test_a_row_writer_notices_that_a_variable_was_replaced() -> None:
    workspace = Workspace()
    writer = workspace.row_writer({"x": ((3,), np.float32)})
    writer.rows(0)[0][:] = 1.0
    writer.commit(0)
    workspace.clear()
    writer.rows(0)[0][:] = 2.0
    writer.commit(0)
    assert workspace["x"].tolist() == [[2.0, 2.0, 2.0]]
    workspace.clear()
    workspace.set("x", 0, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(WorkspaceError, match=r"'x': expected \[3\] torch.int64 on cpu, found \[3\] torch.float32"):
        writer.rows(1)
