"""Workspaces in other processes."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.multiprocessing
from numbered import recorded, row, table

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import Workspace


def _overwrite_in_another_process(workspace: Workspace) -> None:
    workspace.set("x", 1, row(7))
    workspace.set("x", 0, torch.tensor([5.0]), batch_dims=(2, 3))


def test_another_process_writes_into_a_shared_workspace() -> None:
    shared = recorded(3).share_memory()
    context = torch.multiprocessing.get_context("spawn")
    process = context.Process(target=_overwrite_in_another_process, args=(shared,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert shared["x"].tolist() == [[0.0, 1.0, 5.0], row(7).tolist(), row(2).tolist()]


def test_a_shared_workspace_has_a_fixed_size() -> None:
    shared = recorded(3).share_memory()
    with pytest.raises(WorkspaceError, match="cannot grow"):
        shared.set("x", 3, row(3))
    with pytest.raises(WorkspaceError, match="takes no new variable"):
        shared.set("y", 0, row(0))
    with pytest.raises(WorkspaceError, match="cannot be removed"):
        shared.clear()


def test_a_pickled_workspace_is_whole() -> None:
    restored = pickle.loads(pickle.dumps(recorded(20)))
    assert torch.equal(restored["x"], table(20))
    restored.set("x", 20, row(20))
    assert restored.time_size() == 21
