"""Recordings of the values 100·t + b, so that each shows where it is from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.workspace import Workspace


def row(t: int, batch_size: int = 3) -> Tensor:
    return 100.0 * t + torch.arange(batch_size)


def table(n_steps: int, batch_size: int = 3) -> Tensor:
    return torch.stack([row(t, batch_size) for t in range(n_steps)])


def recorded(n_steps: int, batch_size: int = 3, name: str = "x") -> Workspace:
    workspace = Workspace()
    for t in range(n_steps):
        workspace.set(name, t, row(t, batch_size))
    return workspace


def write_next_chunk(workspace: Workspace, how: str) -> None:
    if how == "overwrite":
        for t in range(4):
            workspace.set("x", t, row(50 + t))
        return
    first = 0
    if how == "truncate":
        workspace.truncate(0)
    else:
        workspace.copy_n_last_steps(1)
        first = 1
    writer = workspace.row_writer({"x": ((3,), np.float32)})
    for t in range(first, 4):
        if how == "rows of a writer":
            writer.rows(t)[0][:] = row(50 + t).numpy()
            writer.commit(t)
        else:
            workspace.set("x", t, row(50 + t))
