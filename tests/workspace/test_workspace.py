"""The blackboard: strict, and right under autograd. Values are 100·t + b, so that each tells where it is from."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from bbrl_exp.errors import WorkspaceError
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


# Reads and writes


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


def test_variables_without_a_batch_are_possible() -> None:
    workspace = Workspace()
    for t in range(3):
        workspace.set("loss", t, torch.tensor(float(t)))
    assert workspace["loss"].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(WorkspaceError, match=r"no common batch size.*loss"):
        workspace.batch_size()


# Refusals


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
    with pytest.raises(WorkspaceError, match="'x' at t=1: a write of a variable that nobody has written"):
        Workspace().set("x", 1, row(1))


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


# Chunks


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
    with pytest.raises(WorkspaceError, match="'x': the window from t=-1 to t=3"):
        recorded(3).copy_n_last_steps(4)


def test_truncating_drops_the_rows_of_every_variable() -> None:
    workspace = recorded(5)
    workspace.set_full("y", torch.zeros(4, 3))
    workspace.truncate(1)
    assert workspace.time_size() == 1


def test_rows_are_copied_over_others_also_where_both_overlap() -> None:
    workspace = recorded(4)
    workspace.copy_time(0, 1, 3)
    assert torch.equal(workspace["x"], torch.stack([row(0), row(0), row(1), row(2)]))


# Autograd


def test_gradients_flow_through_recorded_steps() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    workspace = Workspace()
    workspace.set("x", 0, row(0))
    for t in range(1, 4):
        workspace.set("x", t, workspace.get("x", t - 1) * weight + 1)
    workspace["x"][:, 1].sum().backward()
    # x_0 = 1, x_1 = w + 1, x_2 = w² + w + 1, x_3 = w³ + w² + w + 1; at w = 2 the derivatives are 0, 1, 5 and 17.
    assert weight.grad == 1 + 5 + 17


def test_a_network_may_read_a_row_while_later_rows_are_written() -> None:
    linear = torch.nn.Linear(3, 1, bias=False)
    workspace = Workspace()
    outputs = []
    for t in range(40):
        workspace.set("x", t, row(t))
        outputs.append(linear(workspace.get("x", t)))
    torch.stack(outputs).sum().backward()
    assert linear.weight.grad is not None
    assert torch.equal(linear.weight.grad[0], table(40).sum(0))


@pytest.mark.parametrize("read", ["row", "whole"])
@pytest.mark.parametrize("next_chunk", ["copy_n_last_steps", "truncate", "overwrite", "rows of a writer"])
def test_a_backward_pass_after_the_next_chunk_was_written_gives_the_right_gradient(read: str, next_chunk: str) -> None:
    linear = torch.nn.Linear(3, 1, bias=False)
    workspace = recorded(4)
    inputs = workspace["x"] if read == "whole" else workspace.get("x", 2)
    loss = linear(inputs).sum()
    write_next_chunk(workspace, next_chunk)
    loss.backward()
    assert linear.weight.grad is not None
    assert torch.equal(linear.weight.grad[0], table(4).sum(0) if read == "whole" else row(2))


@pytest.mark.parametrize("read", ["row", "whole"])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("when", ["used before the next chunk", "used after the cut", "used after the next chunk"])
@pytest.mark.parametrize("next_chunk", ["copy_n_last_steps", "truncate", "overwrite", "rows of a writer"])
def test_what_was_read_without_gradients_stays_as_it_was(read: str, context: type, when: str, next_chunk: str) -> None:
    linear = torch.nn.Linear(3, 1, bias=False)
    with context():
        workspace = recorded(4)
        view = workspace["x"] if read == "whole" else workspace.get("x", 2)
    loss = linear(view).sum() if when == "used before the next chunk" else None
    if when == "used after the cut":
        workspace.truncate(2)
        workspace.set("x", 2, row(8))
        workspace.set("x", 3, row(9))
        loss = linear(view).sum()
    with context():
        write_next_chunk(workspace, next_chunk)
    loss = linear(view).sum() if loss is None else loss
    loss.backward()
    assert linear.weight.grad is not None
    assert torch.equal(linear.weight.grad[0], table(4).sum(0) if read == "whole" else row(2))


def test_detaching_leaves_what_was_read_before_an_overwrite() -> None:
    weight = torch.tensor(1.0, requires_grad=True)
    workspace = recorded(1)
    loss = (weight * workspace.get("x", 0)).sum()
    derived = workspace.contiguous()
    workspace.set("x", 0, row(5))
    workspace.zero_grad()
    loss.backward()
    assert weight.grad == row(0).sum()
    assert torch.equal(derived["x"], table(1))
    assert torch.equal(workspace.get("x", 0), row(5))


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


def test_rows_recorded_in_inference_mode_serve_a_backward_pass_later() -> None:
    with torch.inference_mode():
        workspace = recorded(20)
        workspace.set_full("y", table(20) + 1)
    linear = torch.nn.Linear(3, 1, bias=False)
    linear(workspace["x"] + workspace["y"]).sum().backward()
    assert linear.weight.grad is not None
    assert torch.equal(linear.weight.grad[0], (2 * table(20) + 1).sum(0))


def test_zero_grad_cuts_the_graph_and_keeps_the_values() -> None:
    workspace = Workspace()
    for t in range(3):
        workspace.set("x", t, row(t).requires_grad_() * 1)
    workspace.set_full("y", workspace["x"] * 2)
    workspace.zero_grad()
    assert not workspace["x"].requires_grad
    assert not workspace["y"].requires_grad
    assert torch.equal(workspace["x"], table(3))
    assert not workspace.get("x", 0).requires_grad


def test_the_last_row_keeps_its_graph_into_the_next_chunk_until_it_is_cut() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    workspace = Workspace()
    for t in range(4):
        workspace.set("x", t, row(t) * weight)
    workspace.copy_n_last_steps(1)
    workspace.get("x", 0).sum().backward()
    assert weight.grad == row(3).sum()


def test_a_latch_over_the_row_just_read_leaves_what_autograd_saved() -> None:
    linear = torch.nn.Linear(3, 1, bias=False)
    workspace = recorded(3)
    loss = linear(workspace.get("x", 2)).sum()
    workspace.set("x", 2, row(9))
    loss.backward()
    assert linear.weight.grad is not None
    assert torch.equal(linear.weight.grad[0], row(2))
    assert torch.equal(workspace["x"], torch.stack([row(0), row(1), row(9)]))


# Derived workspaces


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


def test_batch_elements_are_sampled_with_the_generator_that_is_passed() -> None:
    workspace = recorded(1, batch_size=50)
    samples = [workspace.select_batch_n(20, torch.Generator().manual_seed(3))["x"] for _ in range(2)]
    assert torch.equal(*samples)
    assert samples[0].shape == (1, 20)


def test_each_batch_element_has_a_window_of_its_own() -> None:
    windows = recorded(5).select_subtime(torch.tensor([0, 3, 1]), 2)
    assert windows["x"].tolist() == [[0.0, 301.0, 102.0], [100.0, 401.0, 202.0]]
    with pytest.raises(WorkspaceError, match=r"t: 0 … 4 do not lie in 0 … 3"):
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
    with pytest.raises(WorkspaceError, match="n_timesteps=5: at least 1 and at most 4"):
        recorded(4).sample_subworkspace(1, 1, 5)


def test_workspaces_are_put_side_by_side() -> None:
    joined = Workspace.cat_batch([recorded(2, batch_size=1), recorded(2, batch_size=2)])
    assert joined["x"].tolist() == [[0.0, 0.0, 1.0], [100.0, 100.0, 101.0]]
    with pytest.raises(WorkspaceError, match="'x' differs"):
        Workspace.cat_batch([recorded(2), recorded(3)])
    with pytest.raises(WorkspaceError, match="not every workspace has: x, y"):
        Workspace.cat_batch([recorded(2), recorded(2, name="y")])


# Transitions


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


# Shared memory and other processes


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


# The rest


def test_variables_are_forgotten() -> None:
    workspace = recorded(2)
    workspace.set_full("y", torch.zeros(2, 3))
    workspace.remove_variable("y")
    assert list(workspace.keys()) == ["x"]
    workspace.clear()
    assert len(workspace) == 0
    with pytest.raises(WorkspaceError, match="an empty workspace has no time size"):
        workspace.time_size()


def test_the_representation_is_a_table() -> None:
    workspace = recorded(2)
    workspace.set_full("env/done", torch.zeros(2, 3, dtype=torch.bool))
    assert repr(workspace).splitlines() == [
        "Workspace",
        "  x         [2, 3]           float32  cpu",
        "  env/done  [2, 3]           bool     cpu",
    ]
    assert repr(Workspace()) == "Workspace(empty)"


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
