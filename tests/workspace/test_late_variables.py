"""Variables whose first write is at t > 0, where the workspace allows it: the rows before are unwritten, or zeros."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from numbered import recorded, row, table

from bbrl_exp.agents import Agent, TemporalAgent
from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import Workspace


class Doubling(Agent):
    """Writes 2·x, with gradients."""

    def __init__(self) -> None:
        super().__init__("critic")
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, t: int) -> None:
        self.set(("value", t), self.factor * self.get(("x", t)))


def late(n_steps: int = 4, first: int = 2) -> Workspace:
    """A recording of x from 0 on and of y, the same values, from ``first`` on."""
    workspace = recorded(n_steps).allow_late_start("y")
    for t in range(first, n_steps):
        workspace.set("y", t, row(t))
    return workspace


def test_an_agent_may_run_at_a_later_time_only_where_the_workspace_allows_it() -> None:
    agent = TemporalAgent(Doubling())
    workspace = recorded(2)
    with pytest.raises(WorkspaceError) as error:
        agent(workspace, t=1, n_steps=1)
    assert str(error.value) == (
        "Doubling 'critic' writes 'value' at t=1: a write of a variable that nobody has written; the first write is a "
        "row at t=0, or at a later time after workspace.allow_late_start('value')"
    )
    agent(workspace.allow_late_start("value"), t=1, n_steps=1)
    assert workspace.get("value", 1).tolist() == [200.0, 202.0, 204.0]
    workspace.get("value", 1).sum().backward()  # type: ignore[no-untyped-call]
    assert agent.agent.factor.grad == 303.0


def test_rows_before_the_first_write_are_refused() -> None:
    workspace = late()
    begins = "the variable begins at t=2: read its rows with get(name, t) or get_time_truncated(name, 2, 4)"
    reads = {
        f"'y' at t=1: row t=1 was never written; {begins}": lambda: workspace.get("y", 1),
        f"'y': rows 0 to 1 were never written; {begins}": lambda: workspace["y"],
        f"'y' at t=0: row t=0 was never written; {begins}": lambda: workspace.row_reader(("y",)).rows(0),
    }
    for message, read in reads.items():
        with pytest.raises(WorkspaceError) as error:
            read()
        assert str(error.value) == message
    for unwritten in (
        lambda: workspace.get_time_truncated("y", 1, 4),
        lambda: workspace.subtime(1, 3),
        lambda: workspace.select_subtime(torch.tensor([0, 1, 2]), 2),
        workspace.share_memory,
    ):
        with pytest.raises(WorkspaceError, match="'y': rows 0 to 1 were never written"):
            unwritten()
    with pytest.raises(WorkspaceError, match="'y' at t=4: row t=4 was never written"):
        workspace.get("y", 4)


def test_the_rows_from_the_first_write_on_are_read() -> None:
    workspace = late()
    assert (workspace.time_size(), workspace.n_steps("y")) == (4, 4)
    assert torch.equal(workspace.get_time_truncated("y", 2, 4), table(4)[2:])
    assert torch.equal(workspace.get_time_truncated("y", 2, 4, batch_dims=(1, 2)), table(4)[2:, 1:2])
    assert workspace.row_reader(("y",)).rows(3)[0].tolist() == row(3).tolist()
    assert torch.equal(workspace.subtime(2, 4)["y"], table(4)[2:])


def test_a_variable_grows_at_both_ends_without_a_gap() -> None:
    workspace = late()
    for t in (0, 5):
        with pytest.raises(WorkspaceError, match=f"'y' at t={t}: a write at t={t} would leave a gap"):
            workspace.set("y", t, row(t))
    for t in (1, 4, 0):
        workspace.set("y", t, row(t))
    assert torch.equal(workspace["y"], table(5))


def test_rows_of_arrays_may_begin_late() -> None:
    workspace = recorded(3).allow_late_start("y")
    writer = workspace.row_writer({"y": ((3,), np.float32)})
    writer.write(2, [row(2).numpy()])
    writer.write(3, [row(3).numpy()])
    writer.write(1, [row(1).numpy()])
    assert torch.equal(workspace.get_time_truncated("y", 1, 4), table(4)[1:])
    with pytest.raises(WorkspaceError, match=r"y at t=5: a write at t=5 would leave a gap"):
        writer.rows(5)


def test_copies_keep_what_is_unwritten_and_what_is_allowed() -> None:
    workspace = late()
    copies = {
        "clone": workspace.clone(),
        "constructor": Workspace(workspace),
        "deepcopy": copy.deepcopy(workspace),
        "pickle": pickle.loads(pickle.dumps(workspace)),
        "contiguous": workspace.contiguous(),
        "to": workspace.to("cpu"),
        "select_batch": workspace.select_batch(torch.tensor([0, 1, 2])),
    }
    for how, copied in copies.items():
        assert torch.equal(copied.get_time_truncated("y", 2, 4), table(4)[2:]), how
        with pytest.raises(WorkspaceError, match="'y' at t=1: row t=1 was never written"):
            copied.get("y", 1)
        copied.remove_variable("y")
        copied.set("y", 3, row(3))
        assert torch.equal(copied.get("y", 3), row(3)), how


def test_cuts_in_time_move_the_first_row() -> None:
    workspace = late()
    workspace.copy_n_last_steps(3)
    with pytest.raises(WorkspaceError, match="'y' at t=0: row t=0 was never written"):
        workspace.get("y", 0)
    workspace.copy_n_last_steps(2)
    assert torch.equal(workspace["y"], table(4)[2:])
    workspace = late()
    workspace.truncate(1)
    assert workspace.n_steps("y") == 1
    with pytest.raises(WorkspaceError, match="'y' at t=0: row t=0 was never written"):
        workspace.get("y", 0)
    workspace.set("y", 1, row(1))
    assert torch.equal(workspace.get("y", 1), row(1))


@pytest.mark.parametrize("n_rows", [0, 1])
def test_a_variable_of_which_a_cut_left_no_row_may_begin_late_again(n_rows: int) -> None:
    workspace = late()
    seen = workspace.get_time_truncated("y", 2, 4)
    workspace.truncate(n_rows)
    workspace.set("y", 3, row(3))
    workspace.set("y", 4, row(4))
    assert torch.equal(workspace.get_time_truncated("y", 3, 5), table(5)[3:])
    with pytest.raises(WorkspaceError, match="'y' at t=2: row t=2 was never written"):
        workspace.get("y", 2)
    workspace.truncate(n_rows)
    workspace.row_writer({"y": ((3,), np.float32)}).write(1, [row(1).numpy()])
    assert torch.equal(workspace.get_time_truncated("y", 1, 2), table(2)[1:])
    assert torch.equal(seen, table(4)[2:])


def test_every_variable_or_the_named_ones_may_begin_late() -> None:
    named = Workspace().allow_late_start("y", "z")
    named.set("z", 3, row(3))
    with pytest.raises(WorkspaceError, match=r"after workspace.allow_late_start\('x'\)"):
        named.set("x", 1, row(1))
    every = Workspace().allow_late_start()
    every.set("x", 1, row(1))
    every.set("y", 2, row(2))
    with pytest.raises(WorkspaceError, match="t=-1 is negative"):
        every.set("z", -1, row(1))
    with pytest.raises(WorkspaceError) as error:
        Workspace().allow_late_start("y", True)  # type: ignore[arg-type]
    assert str(error.value) == "a variable's name is a non-empty string, found True"


def test_the_rows_before_are_zeros_where_that_is_asked_for() -> None:
    workspace = recorded(2).allow_late_start(zeros_before=True)
    TemporalAgent(Doubling())(workspace, t=1, n_steps=1)
    assert workspace["value"].tolist() == [[0.0, 0.0, 0.0], [200.0, 202.0, 204.0]]
    workspace["value"].sum().backward()  # type: ignore[no-untyped-call]
    writer = workspace.row_writer({"flag": ((3,), np.bool_)})
    writer.write(1, [np.ones(3, np.bool_)])
    assert workspace["flag"].tolist() == [[False] * 3, [True] * 3]
    derived = workspace.subtime(0, 2)
    derived.set("z", 1, row(1))
    assert torch.equal(derived["z"], torch.stack([torch.zeros(3), row(1)]))
