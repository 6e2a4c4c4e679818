"""Recordings are cut into chunks, and parts of them are taken out."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.multiprocessing
from numbered import recorded, row, table, write_next_chunk

from bbrl_exp.errors import WorkspaceError


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_the_last_steps_alone_are_left(n: int) -> None:
    workspace = recorded(5)
    workspace.copy_n_last_steps(n)
    assert torch.equal(workspace["x"], table(5)[5 - n :])
    with pytest.raises(WorkspaceError):
        workspace.get("x", n)
    workspace.set("x", n, row(77))
    assert torch.equal(workspace.get("x", n), row(77))


def test_more_last_steps_than_there_are_is_refused() -> None:
    with pytest.raises(WorkspaceError, match="n=4: must be an integer from 0 to 3"):
        recorded(3).copy_n_last_steps(4)


def test_truncating_drops_the_rows_of_every_variable() -> None:
    workspace = recorded(5)
    workspace.set_full("y", torch.zeros(4, 3))
    workspace.truncate(1)
    assert workspace.time_size() == 1


def test_variables_are_forgotten() -> None:
    workspace = recorded(2)
    workspace.set_full("y", torch.zeros(2, 3))
    workspace.remove_variable("y")
    assert list(workspace.keys()) == ["x"]
    workspace.clear()
    assert len(workspace) == 0
    with pytest.raises(WorkspaceError, match="an empty workspace has no time size"):
        workspace.time_size()


def test_derived_workspaces_keep_their_values_when_the_recording_goes_on() -> None:
    with torch.inference_mode():
        workspace = recorded(4)
        derived = [workspace.clone(), workspace.contiguous(), workspace.to("cpu"), workspace.subtime(0, 4)]
        derived.append(copy.deepcopy(workspace))
        write_next_chunk(workspace, "copy_n_last_steps")
    for other in derived:
        assert torch.equal(other["x"], table(4))


def test_a_window_of_time_is_cut_out() -> None:
    workspace = recorded(5)
    assert torch.equal(workspace.subtime(1, 3)["x"], table(5)[1:3])
    assert torch.equal(workspace.get_time_truncated_workspace(1, 3)["x"], table(5)[1:3])
    assert torch.equal(workspace.get_time_truncated("x", 1, 3), table(5)[1:3])
    for window in [(-1, 2), (2, 2), (3, 6)]:
        with pytest.raises(WorkspaceError, match="no window"):
            workspace.subtime(*window)
        with pytest.raises(WorkspaceError, match="'x': no window"):
            workspace.get_time_truncated("x", *window)


def test_batch_elements_are_selected_in_the_order_asked_for() -> None:
    selected = recorded(2).select_batch(torch.tensor([2, 0, 2]))
    assert selected["x"].tolist() == [[2.0, 0.0, 2.0], [102.0, 100.0, 102.0]]
    for indexes in [torch.tensor([3]), torch.tensor([-1]), torch.tensor([0.0]), torch.tensor([[0]])]:
        with pytest.raises(WorkspaceError, match="batch_indexes"):
            recorded(2).select_batch(indexes)
