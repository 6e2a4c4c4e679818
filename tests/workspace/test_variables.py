"""One step of a variable: what is written is read back, and what does not fit is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.multiprocessing
from numbered import recorded, row, table
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import Workspace


def test_what_was_written_step_by_step_is_read_back_at_each_step_and_as_a_whole() -> None:
    workspace = recorded(50)
    assert torch.equal(workspace["x"], table(50))
    assert torch.equal(workspace.get("x", 37), row(37))
    assert (workspace.time_size(), workspace.batch_size()) == (50, 3)


def test_a_full_read_without_autograd_copies_nothing() -> None:
    workspace = recorded(5)
    assert workspace["x"].data_ptr() == workspace.get("x", 0).data_ptr()


def test_a_write_copies_the_value() -> None:
    value = row(0)
    workspace = Workspace()
    workspace.set("x", 0, value)
    value.add_(1)
    assert torch.equal(workspace.get("x", 0), row(0))


def test_several_variables_are_read_at_once() -> None:
    workspace = recorded(2)
    workspace.set_full("y", table(2) + 0.5)
    x, y = workspace["x", "y"]
    assert torch.equal(x + 0.5, y)


def test_a_row_can_be_overwritten() -> None:
    workspace = recorded(3)
    workspace.set("x", 1, row(7))
    assert torch.equal(workspace["x"], torch.stack([row(0), row(7), row(2)]))


def test_a_whole_variable_continues_step_by_step() -> None:
    workspace = Workspace()
    workspace.set_full("x", table(3))
    workspace.set("x", 3, row(3))
    workspace.set("x", 0, row(9))
    assert torch.equal(workspace["x"], torch.stack([row(9), row(1), row(2), row(3)]))


def test_part_of_the_batch_is_written_and_read() -> None:
    workspace = recorded(2)
    workspace.set("x", 1, torch.tensor([7.0, 8.0]), batch_dims=(1, 3))
    assert workspace.get("x", 1).tolist() == [100.0, 7.0, 8.0]
    assert workspace.get("x", 1, batch_dims=(0, 2)).tolist() == [100.0, 7.0]
    assert workspace.get_full("x", batch_dims=(2, 3)).tolist() == [[2.0], [8.0]]
    workspace.set_full("x", torch.zeros(2, 1), batch_dims=(0, 1))
    assert workspace["x"].tolist() == [[0.0, 1.0, 2.0], [0.0, 7.0, 8.0]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_the_dtype_of_the_first_write_is_kept(dtype: torch.dtype) -> None:
    workspace = Workspace()
    for t in range(20):
        workspace.set("x", t, torch.ones(2, dtype=dtype))
    assert workspace["x"].dtype == dtype


def refusal(write: Callable[[], object]) -> str:
    with pytest.raises(WorkspaceError) as error:
        write()
    return str(error.value)


def test_a_scalar_without_a_batch_dimension_is_refused_where_it_is_written() -> None:
    assert refusal(lambda: Workspace().set("loss", 0, torch.tensor(1.5))) == (
        "'loss' at t=0: expected a row [B, …], found a scalar float32 [], which has no batch dimension"
    )
    workspace = recorded(1)
    expected = "'loss' at t=0: expected a row [3, …], found a scalar int64 [], which has no batch dimension"
    assert refusal(lambda: workspace.set("loss", 0, torch.tensor(1))) == expected
    assert refusal(lambda: workspace.row_writer({"loss": ((), np.int64)}).rows(0)) == expected
    assert refusal(lambda: workspace.set_full("loss", torch.zeros(5))) == (
        "'loss': expected a torch.Tensor [T, B, …], found [5] torch.float32"
    )
    assert list(workspace.keys()) == ["x"]


def test_the_agent_that_writes_a_scalar_is_named() -> None:
    class Loss(Agent):
        def forward(self, t: int) -> None:
            self.set(("loss", t), torch.tensor(0.0))

    assert refusal(lambda: Loss(name="critic")(recorded(1), t=0)) == (
        "Loss 'critic' writes 'loss' at t=0: expected a row [3, …], found a scalar float32 [], which has no batch "
        "dimension"
    )


IN_PLACE = (
    "'x': the recorded rows were changed in place through a tensor that was read or set; change a clone(), and record "
    "it with set_full"
)
CUTS: dict[str, Callable[[Workspace], object]] = {
    "read": lambda workspace: workspace["x"],
    "window": lambda workspace: workspace.get_time_truncated("x", 1, 2),
    "next chunk": lambda workspace: workspace.copy_n_last_steps(1),
    "new recording": lambda workspace: workspace.truncate(1),
    "memory": lambda workspace: workspace.reserve(0) or [workspace.set("x", t, row(t)) for t in range(3, 20)],
    "derived": lambda workspace: workspace.clone(),
    "pickle": pickle.dumps,
    "zero_grad": lambda workspace: workspace.zero_grad(),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_change_of_a_full_read_in_place_is_noticed_at_the_next_read_or_cut(cut: str, context: type) -> None:
    workspace = recorded(3)
    with context():
        workspace["x"].add_(1)
        assert refusal(lambda: CUTS[cut](workspace)).replace("'x' at t=16:", "'x':") == IN_PLACE


@pytest.mark.parametrize("is_whole", [False, True])
def test_every_way_to_change_a_read_in_place_is_noticed(is_whole: bool) -> None:
    def assigned(workspace: Workspace) -> None:
        workspace.get_full("x")[0] = 5.0

    changes: list[Callable[[Workspace], object]] = [
        assigned,
        lambda workspace: workspace.get("x", 1).mul_(2),
        lambda workspace: workspace["x"].view(-1)[2:].zero_(),
        lambda workspace: torch.add(workspace["x"], 1, out=workspace["x"]),
        lambda workspace: workspace.subtime(0, 2)["x"].neg_(),
    ]
    for change in changes:
        workspace = recorded(3).contiguous() if is_whole else recorded(3)
        change(workspace)
        assert refusal(lambda workspace=workspace: workspace["x"]) == IN_PLACE


def test_a_change_in_place_of_a_row_that_was_overwritten_is_noticed() -> None:
    workspace = recorded(3)
    assert len(workspace["x"]) == 3
    workspace.set("x", 1, row(7))
    workspace.get("x", 1).add_(1)
    assert refusal(lambda: workspace["x"]) == IN_PLACE


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_an_optimizer_may_change_the_parameter_of_which_rows_are_views(is_whole: bool, context: type) -> None:
    workspace, parameter = Workspace(), torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([parameter], 1.0)
    if is_whole:
        workspace.set_full("scale", parameter.expand(2, 3, 2))
        workspace.truncate(1)
    else:
        workspace.set("scale", 0, parameter.expand(3, 2))
    workspace["scale"].sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    with context():
        workspace.zero_grad()
    optimizer.step()
    workspace.copy_n_last_steps(1)
    assert workspace["scale"].tolist() == [[[-3, -3]] * 3]
    workspace["scale"].add_(1)
    assert refusal(lambda: workspace["scale"]) == IN_PLACE.replace("'x'", "'scale'")


def test_a_changed_read_can_be_recorded() -> None:
    workspace = recorded(3)
    changed = workspace["x"].clone()
    changed.add_(1)
    workspace.set_full("x", changed)
    assert torch.equal(workspace["x"], table(3) + 1)
    workspace.set("x", 3, row(3))
    assert torch.equal(workspace["x"], torch.cat([table(3) + 1, row(3)[None]]))


def test_a_whole_tensor_that_is_changed_after_it_was_set_is_noticed() -> None:
    workspace, whole = Workspace(), table(3)
    workspace.set_full("x", whole)
    whole.zero_()
    assert refusal(lambda: workspace.set("x", 3, row(3))) == IN_PLACE.replace("'x':", "'x' at t=3:")


@pytest.mark.parametrize(
    ("t", "value", "message"),
    [
        (-1, row(0), r"'x' at t=-1: t=-1 is negative"),
        (5, row(0), r"'x' at t=5: a write at t=5 would leave a gap: the next row is t=3"),
        (3, torch.zeros(4), r"'x' at t=3: expected \[3\] float32 on cpu, found \[4\] float32 on cpu"),
        (3, torch.zeros(3, 1), r"expected \[3\] float32 on cpu, found \[3, 1\]"),
        (3, torch.zeros(3, dtype=torch.float64), r"expected \[3\] float32 on cpu, found \[3\] float64"),
        (3, torch.zeros(3, device="meta"), r"expected \[3\] float32 on cpu, found \[3\] float32 on meta"),
        (3, [0.0, 1.0, 2.0], r"expected a torch.Tensor, found list"),
    ],
)
def test_a_write_that_does_not_fit_is_refused_and_changes_nothing(t: int, value: Tensor, message: str) -> None:
    workspace = recorded(3)
    with pytest.raises(WorkspaceError, match=message):
        workspace.set("x", t, value)
    assert torch.equal(workspace["x"], table(3))


def test_the_first_write_of_a_variable_is_at_time_zero() -> None:
    message = (
        "'x' at t=1: a write of a variable that nobody has written; the first write is a row at t=0, or at a later "
        "time after workspace.allow_late_start('x')"
    )
    workspace = Workspace()
    assert refusal(lambda: workspace.set("x", 1, row(1))) == message
    assert refusal(lambda: workspace.row_writer({"x": ((3,), np.float32)}).rows(1)) == message
    assert list(workspace.keys()) == []


@pytest.mark.parametrize("t", [-1, 3, 16])
def test_a_row_that_was_never_written_is_refused(t: int) -> None:
    with pytest.raises(WorkspaceError, match=f"'x' at t={t}"):
        recorded(3).get("x", t)


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    workspace = Workspace()
    workspace.set("env/reward", 0, row(0))
    with pytest.raises(WorkspaceError, match=r"'env/rewards' at t=0.*present: env/reward; did you mean 'env/reward'\?"):
        workspace.get("env/rewards", 0)
    with pytest.raises(WorkspaceError, match="present: env/reward"):
        workspace["action"]


def test_a_full_write_of_another_row_shape_is_refused() -> None:
    workspace = recorded(3)
    with pytest.raises(WorkspaceError, match=r"'x': expected \[2, 3\] float32 on cpu, found \[2, 4\]"):
        workspace.set_full("x", torch.zeros(2, 4))


def test_different_sizes_are_named() -> None:
    workspace = recorded(3)
    workspace.set_full("y", torch.zeros(2, 5))
    with pytest.raises(WorkspaceError, match="no common time size: x: 3, y: 2"):
        workspace.time_size()
    with pytest.raises(WorkspaceError, match="no common batch size: x: 3, y: 5"):
        workspace.batch_size()
    with pytest.raises(WorkspaceError, match="different time sizes cannot be cut together"):
        workspace.copy_n_last_steps(1)


@pytest.mark.parametrize("batch_dims", [(0, 4), (-1, 1), (2, 2)])
def test_batch_elements_that_are_not_there_are_refused(batch_dims: tuple[int, int]) -> None:
    for operation in (
        lambda w: w.get("x", 0, batch_dims),
        lambda w: w.get_full("x", batch_dims),
        lambda w: w.set("x", 0, torch.zeros(max(batch_dims[1] - batch_dims[0], 0)), batch_dims),
    ):
        with pytest.raises(WorkspaceError, match="0 <= start < stop <= 3"):
            operation(recorded(2))


def test_a_full_write_of_part_of_the_batch_has_as_many_rows_as_the_variable() -> None:
    workspace = recorded(5)
    with pytest.raises(WorkspaceError, match="expected 5 rows, found 2"):
        workspace.set_full("x", torch.zeros(2, 1), batch_dims=(0, 1))
    assert torch.equal(workspace["x"], table(5))


def test_a_time_step_is_an_integer() -> None:
    with pytest.raises(WorkspaceError, match=r"'x' at t=0.0: a time step is an integer"):
        recorded(2).get("x", 0.0)  # type: ignore[arg-type]
    with pytest.raises(WorkspaceError, match=r"'x' at t=2.0: a time step is an integer"):
        recorded(2).set("x", 2.0, row(2))  # type: ignore[arg-type]


def test_the_representation_is_a_table() -> None:
    workspace = recorded(2)
    workspace.set_full("env/done", torch.zeros(2, 3, dtype=torch.bool))
    assert repr(workspace).splitlines() == [
        "Workspace",
        "  x         [2, 3]           float32  cpu",
        "  env/done  [2, 3]           bool     cpu",
    ]
    assert repr(Workspace()) == "Workspace(empty)"
