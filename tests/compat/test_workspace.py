"""BBRL's workspace: rows that are skipped, variables without a batch, whole variables, transitions, the mapping."""

from __future__ import annotations

import pytest
import torch
from bbrl.agents import Agent, TemporalAgent
from bbrl.workspace import Workspace

import bbrl_exp
from bbrl_exp.errors import WorkspaceError


def numbered(n_steps: int, *shape: int) -> torch.Tensor:
    """100·t + b, in every component."""
    t, b = torch.arange(n_steps), torch.arange(shape[0])
    values = (100 * t[:, None] + b).float()
    return values.view(n_steps, shape[0], *[1] * (len(shape) - 1)).expand(n_steps, *shape).clone()


def test_rows_that_are_skipped_are_zeros() -> None:
    workspace = Workspace()
    workspace.set("late", 2, torch.tensor([5.0, 6.0]))
    workspace.set("late", 4, torch.tensor([7.0, 8.0]))
    assert workspace["late"].tolist() == [[0, 0], [0, 0], [5, 6], [0, 0], [7, 8]]
    with pytest.raises(WorkspaceError, match=r"t=-1 is negative; time starts at 0"):
        workspace.get("late", -1)


def test_a_target_network_runs_at_the_second_row_of_transitions_only() -> None:
    class Target(Agent):
        def forward(self, t: int, **kwargs: object) -> None:
            self.set(("target/q", t), 2 * self.get(("env/env_obs", t)))

    workspace = Workspace()
    workspace.set_full("env/env_obs", numbered(2, 3))
    TemporalAgent(Target())(workspace, t=1, n_steps=1)
    assert workspace["target/q"].tolist() == [[0, 0, 0], [200, 202, 204]]


def test_a_whole_variable_may_be_replaced_by_one_of_another_size() -> None:
    workspace = Workspace()
    workspace.set_full("x", numbered(2, 3))
    workspace.set_full("x", workspace["x"][:, :2])
    assert workspace.batch_size() == 2
    workspace.set_full("x", torch.ones(2, 3, dtype=torch.int64))
    assert workspace["x"].dtype == torch.int64


def test_what_a_full_read_gives_may_be_changed() -> None:
    workspace = Workspace()
    for t, row in enumerate(numbered(3, 2)):
        workspace.set("x", t, row)
    rewards = workspace["x"]
    rewards[0] += 1
    assert torch.equal(workspace["x"], numbered(3, 2))
    assert not torch.equal(rewards, numbered(3, 2))


def test_a_window_of_time_may_be_changed_and_ends_with_the_recording() -> None:
    workspace = Workspace()
    for t, row in enumerate(numbered(3, 2)):
        workspace.set("x", t, row)
    window = workspace.get_time_truncated("x", 1, 9)
    window -= 1
    assert window.tolist() == [[99, 100], [199, 200]]
    assert torch.equal(workspace["x"], numbered(3, 2))
    with pytest.raises(WorkspaceError, match=r"'x': no window \[2:4\] in the recorded rows"):
        workspace.copy_time(2, 0, 2)


def test_gradients_flow_through_full_reads() -> None:
    weight, workspace = torch.tensor(2.0, requires_grad=True), Workspace()
    for t in range(3):
        workspace.set("y", t, weight * torch.tensor([float(t)]))
    workspace["y"].sum().backward()
    assert weight.grad == 3


def test_variables_may_lack_a_batch() -> None:
    workspace = Workspace()
    workspace.set_full("number", torch.arange(4))
    workspace.set_full("env/done", torch.tensor([0, 1, 0, 0]))
    transitions = workspace.get_transitions()
    assert transitions["number"].tolist() == [[0, 2], [1, 3]]
    assert transitions["env/done"].tolist() == [[0, 0], [1, 0]]
    assert transitions["env/done"].dtype == torch.int64
    assert transitions.batch_size() == 2


def test_transitions_leave_out_the_pairs_after_an_end() -> None:
    workspace = Workspace()
    workspace.set_full("x", numbered(3, 2))
    workspace.set_full("env/done", torch.tensor([[False, True], [False, False], [True, False]]))
    assert workspace.get_transitions()["x"].tolist() == [[0, 100, 101], [100, 200, 201]]
    assert workspace.get_transitions(no_final_state=True).batch_size() == 4
    with pytest.raises(WorkspaceError, match=r"'env/end': nobody has written this variable; present: x, env/done"):
        workspace.get_transitions(filter_key="env/end")


def test_the_mapping_of_variables_is_the_workspace() -> None:
    workspace = Workspace()
    workspace.set_full("x", numbered(3, 2, 4))
    assert "x" in workspace.variables
    assert list(workspace.variables.keys()) == ["x"]
    variable = workspace.variables["x"]
    assert (variable.time_size(), variable.batch_size(), tuple(variable.size)) == (3, 2, (2, 4))
    assert torch.equal(variable.get(1, None), workspace.get("x", 1))
    assert torch.equal(variable.get_full(None), workspace["x"])
    with pytest.raises(WorkspaceError) as caught:
        workspace.variables["y"] = variable
    assert str(caught.value) == ("workspace.variables['y'] cannot be set; use workspace.set_full('y', tensor)")
    del workspace.variables["x"]
    assert not workspace.keys()


def test_what_is_made_from_a_workspace_is_like_it() -> None:
    workspace = Workspace()
    workspace.set_full("x", numbered(3, 2))
    workspace.set_full("env/done", torch.zeros(3, 2, dtype=torch.bool))
    for made in (workspace.clone(), workspace.subtime(0, 2), workspace.get_transitions(), workspace.select_batch_n(3)):
        assert type(made) is Workspace
        made.set("late", 1, torch.ones(2))
    assert isinstance(workspace, bbrl_exp.Workspace)
    assert not workspace.is_shared
    assert workspace.share_memory().is_shared


def test_the_last_rows_begin_the_next_chunk() -> None:
    workspace = Workspace()
    workspace.set_full("x", numbered(4, 2))
    workspace.copy_n_last_steps(1)
    workspace.set("x", 1, torch.tensor([-1.0, -2.0]))
    assert workspace["x"].tolist() == [[300, 301], [-1, -2]]
