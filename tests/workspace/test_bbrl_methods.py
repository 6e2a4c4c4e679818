"""What only programs written for BBRL call."""

from __future__ import annotations

import pytest
import torch
import torch.multiprocessing
from numbered import recorded, row

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import Workspace


def test_rows_are_copied_over_others_also_where_both_overlap() -> None:
    workspace = recorded(4)
    workspace.copy_time(0, 1, 3)
    assert torch.equal(workspace["x"], torch.stack([row(0), row(0), row(1), row(2)]))


def test_batch_elements_are_sampled_with_the_generator_that_is_passed() -> None:
    workspace = recorded(1, batch_size=50)
    samples = [workspace.select_batch_n(20, torch.Generator().manual_seed(3))["x"] for _ in range(2)]
    assert torch.equal(*samples)
    assert samples[0].shape == (1, 20)


def test_each_batch_element_has_a_window_of_its_own() -> None:
    windows = recorded(5).select_subtime(torch.tensor([0, 3, 1]), 2)
    assert windows["x"].tolist() == [[0.0, 301.0, 102.0], [100.0, 401.0, 202.0]]
    with pytest.raises(WorkspaceError, match=r"t: found 0 to 4, must be from 0 to 3"):
        recorded(5).select_subtime(torch.tensor([0, 4, 1]), 2)
    with pytest.raises(WorkspaceError, match="one time for each of 3 batch elements, found 2"):
        recorded(5).select_subtime(torch.tensor([0, 1]), 2)


def test_sampled_windows_are_contiguous_distinct_in_the_batch_and_reach_both_ends() -> None:
    sample = recorded(4, batch_size=3).sample_subworkspace(200, 2, 3, torch.Generator().manual_seed(0))["x"]
    assert sample.shape == (3, 400)
    assert torch.equal(sample[1:] - sample[:-1], torch.full((2, 400), 100.0))
    assert set((sample[0] // 100).tolist()) == {0.0, 1.0}
    pairs = (sample[0] % 100).reshape(200, 2)
    assert bool((pairs[:, 0] != pairs[:, 1]).all())
    with pytest.raises(WorkspaceError, match="n_timesteps=5: must be an integer from 1 to 4"):
        recorded(4).sample_subworkspace(1, 1, 5)


def test_workspaces_are_put_side_by_side() -> None:
    joined = Workspace.cat_batch([recorded(2, batch_size=1), recorded(2, batch_size=2)])
    assert joined["x"].tolist() == [[0.0, 0.0, 1.0], [100.0, 100.0, 101.0]]
    with pytest.raises(WorkspaceError, match="'x' differs"):
        Workspace.cat_batch([recorded(2), recorded(3)])
    with pytest.raises(WorkspaceError, match="not every workspace has: x, y"):
        Workspace.cat_batch([recorded(2), recorded(2, name="y")])


def test_transitions_leave_out_the_pairs_that_are_none() -> None:
    workspace = recorded(4, batch_size=2)
    workspace.set_full("env/done", torch.tensor([[0, 0], [1, 0], [0, 0], [0, 1]], dtype=torch.bool))
    transitions = workspace.get_transitions()
    assert transitions["x"].tolist() == [[0.0, 1.0, 101.0, 200.0, 201.0], [100.0, 101.0, 201.0, 300.0, 301.0]]
    assert workspace.get_transitions(no_final_state=True)["x"].shape == (2, 6)


def test_transitions_need_the_filter_variable_only() -> None:
    workspace = recorded(3, batch_size=1)
    workspace.set_full("over", torch.tensor([[True], [False], [False]]))
    assert workspace.get_transitions(filter_key="over")["x"].tolist() == [[100.0], [200.0]]
    with pytest.raises(WorkspaceError, match="'env/done': nobody has written this variable"):
        workspace.get_transitions()
    with pytest.raises(WorkspaceError, match=r"'x': expected bool \[T, B\]"):
        workspace.get_transitions(filter_key="x")
