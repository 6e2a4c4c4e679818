"""What is kept of a run at a boundary between two chunks."""

import torch
from torch import nn

from bbrl_exp import Workspace
from bbrl_exp.training.loop import Chunk, Rows
from bbrl_exp.training.resumption import RunningParts


def test_the_last_row_of_a_variable_that_began_late_is_kept() -> None:
    workspace = Workspace().allow_late_start("late")
    for t in range(3):
        workspace.set("early", t, torch.tensor([10.0 * t]))
    for t in (1, 2):
        workspace.set("late", t, torch.tensor([100.0 * t]))
    chunk = Chunk(1, 0, 2, 2, Rows(0, 0, 3), is_cut_next=True, is_last=False)
    kept = RunningParts(nn.Identity(), None, workspace, {}).state(chunk)["workspace"]
    assert {name: rows.tolist() for name, rows in kept.items()} == {"early": [[20.0]], "late": [[200.0]]}
