"""Times and numbers of rows are integers; anything else is refused in one line, and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numbered import recorded, row, table

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import Workspace

NOT_INTEGERS = [0.0, 1.0, 2.5, math.nan, math.inf, True, False, np.float64(1), np.bool_(True), "1", None]


def whole(n_steps: int = 3) -> Workspace:
    workspace = Workspace()
    workspace.set_full("x", table(n_steps))
    return workspace


def with_gradients() -> Workspace:
    workspace = Workspace()
    for t in range(3):
        workspace.set("x", t, row(t).requires_grad_())
    return workspace


KINDS: dict[str, Callable[[], Workspace]] = {
    "stepped": lambda: recorded(3),
    "whole": whole,
    "shared": lambda: recorded(3).share_memory(),
    "with gradients": with_gradients,
}
OF_A_TIME: dict[str, Callable[[Workspace, Any], object]] = {
    "get": lambda workspace, t: workspace.get("x", t),
    "get a part": lambda workspace, t: workspace.get("x", t, (0, 1)),
    "set": lambda workspace, t: workspace.set("x", t, row(7)),
    "set with a gradient": lambda workspace, t: workspace.set("x", t, row(7).requires_grad_()),
    "set a part": lambda workspace, t: workspace.set("x", t, row(7)[:1], (0, 1)),
    "rows to read": lambda workspace, t: workspace.row_reader(("x",)).rows(t),
}
OF_A_NUMBER: dict[str, Callable[[Workspace, Any], object]] = {
    "reserve": lambda workspace, n: workspace.reserve(n),
    "truncate": lambda workspace, n: workspace.truncate(n),
    "copy_n_last_steps": lambda workspace, n: workspace.copy_n_last_steps(n),
    "beginning of copy_time": lambda workspace, t: workspace.copy_time(t, 1, 1),
    "end of copy_time": lambda workspace, t: workspace.copy_time(1, t, 1),
    "length of copy_time": lambda workspace, n: workspace.copy_time(0, 1, n),
    "beginning of a window": lambda workspace, t: workspace.subtime(t, 3),
    "end of a window": lambda workspace, t: workspace.subtime(0, t),
    "beginning of a window of a variable": lambda workspace, t: workspace.get_time_truncated("x", t, 3),
    "end of a window of a variable": lambda workspace, t: workspace.get_time_truncated("x", 0, t),
    "beginning of a part": lambda workspace, b: workspace.get_full("x", (b, 3)),
    "end of a part": lambda workspace, b: workspace.get("x", 1, (0, b)),
    "part to write": lambda workspace, b: workspace.set("x", 1, row(7)[:1], (0, b)),
    "select_batch_n": lambda workspace, n: workspace.select_batch_n(n),
    "window_size": lambda workspace, n: workspace.select_subtime(torch.zeros(3, dtype=torch.int64), n),
    "n_times": lambda workspace, n: workspace.sample_subworkspace(n, 1, 1),
    "n_batch_elements": lambda workspace, n: workspace.sample_subworkspace(1, n, 1),
    "n_timesteps": lambda workspace, n: workspace.sample_subworkspace(1, 1, n),
}


def refused(call: Callable[[Workspace, Any], object], workspace: Workspace, value: Any) -> str:
    before = workspace["x"].clone()
    with pytest.raises(WorkspaceError) as caught:
        call(workspace, value)
    assert type(workspace.n_steps("x")) is int
    assert torch.equal(workspace["x"], before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", OF_A_TIME)
def test_a_time_step_is_an_integer(call: str, kind: str) -> None:
    for value in NOT_INTEGERS:
        message = refused(OF_A_TIME[call], KINDS[kind](), value)
        assert message == f"'x' at t={value!r}: a time step is an integer"


@pytest.mark.parametrize("call", OF_A_NUMBER)
def test_a_number_of_a_method_is_an_integer(call: str) -> None:
    for value in NOT_INTEGERS:
        assert f"{value}" in refused(OF_A_NUMBER[call], recorded(3), value)
    OF_A_NUMBER[call](recorded(3), np.int64(2 if call.startswith("end") else 1))


@pytest.mark.parametrize("call", ["reserve", "truncate", "copy_n_last_steps", "select_batch_n"])
def test_a_number_of_rows_is_not_negative(call: str) -> None:
    assert "=-1: must be an integer" in refused(OF_A_NUMBER[call], recorded(3), -1)


def test_a_variable_is_first_written_at_an_integer() -> None:
    workspace = Workspace()
    for value in (0.0, False):
        with pytest.raises(WorkspaceError, match="a time step is an integer"):
            workspace.set("x", value, row(0))  # type: ignore[arg-type]
    assert len(workspace) == 0


@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_a_row_writer_takes_integers(n_steps: int) -> None:
    workspace = recorded(n_steps) if n_steps else Workspace()
    writer = workspace.row_writer({"x": ((3,), np.float32)})
    for value in (float(n_steps), bool(n_steps), "1", None):
        for attempt in (lambda t: writer.rows(t), lambda t: writer.write(t, [row(7).numpy()])):
            with pytest.raises(WorkspaceError, match=f"x at t={value!r}: a time step is an integer"):
                attempt(value)
    writer.write(np.int64(n_steps), [row(n_steps).numpy()])  # type: ignore[arg-type]
    writer.write(n_steps + 1, [row(n_steps + 1).numpy()])
    assert torch.equal(workspace["x"], table(n_steps + 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_integers_of_numpy_are_times(dtype: type) -> None:
    workspace = Workspace()
    times = [min(t, np.iinfo(dtype).max) for t in range(300)]
    for t in times:
        value = row(t)[:1].requires_grad_(t % 2 == 0)
        workspace.set("x", dtype(t), value)
        assert workspace.get("x", dtype(t)) == 100 * t
        assert workspace.row_reader(("x",)).rows(dtype(t))[0].tolist() == [100 * t]
    assert type(workspace.n_steps("x")) is int
    assert torch.equal(workspace["x"], table(max(times) + 1, 1))


@pytest.mark.parametrize("name", [5, ("x",), ["x"], None])
def test_a_name_is_a_string(name: Any) -> None:
    workspace = recorded(2)
    for call in (lambda: workspace.get(name, 0), lambda: workspace.set(name, 0, row(0))):
        with pytest.raises(WorkspaceError, match="a variable's name is a"):
            call()
    if not isinstance(name, tuple | list):
        with pytest.raises(WorkspaceError, match=f"a variable's name is a string, found {name}"):
            workspace[name]


def test_part_of_a_batch_needs_a_batch() -> None:
    workspace = Workspace()
    workspace._named.batch_is_optional = True  # as in programs written for BBRL
    workspace.set("loss", 0, torch.tensor(1.0))
    for call in (
        lambda: workspace.get("loss", 0, (0, 1)),
        lambda: workspace.get_full("loss", (0, 1)),
        lambda: workspace.set("loss", 0, torch.zeros(1), (0, 1)),
        lambda: Workspace.cat_batch([workspace, workspace]),
    ):
        with pytest.raises(WorkspaceError, match=r"'loss'.* has no batch"):
            call()


@pytest.mark.parametrize("batch_dims", [3, (1,), (0, 1, 2), "01"])
def test_part_of_a_batch_is_a_pair(batch_dims: Any) -> None:
    for call in (
        lambda: recorded(2).get("x", 0, batch_dims),
        lambda: recorded(2).get_full("x", batch_dims),
        lambda: recorded(2).set("x", 0, row(7), batch_dims),
    ):
        with pytest.raises(WorkspaceError, match=r"batch_dims=.*: must be two integers, 0 <= start < stop <= 3"):
            call()


@pytest.mark.parametrize("rows", [[row(3)], torch.tensor(1.0), None])
def test_rows_are_a_tensor_with_time(rows: Any) -> None:
    for call in (lambda: recorded(2).extend("x", rows), lambda: recorded(2).set_full("x", rows)):
        with pytest.raises(WorkspaceError, match=r"'x': expected a torch.Tensor \[T, B, …\], found"):
            call()


def test_indexes_of_another_kind_are_described_in_one_line() -> None:
    with pytest.raises(WorkspaceError) as caught:
        recorded(2).select_batch(torch.zeros(50, 50))
    assert (
        str(caught.value)
        == "batch_indexes: expected a tensor of indexes, [N] torch.int64, found [50, 50] torch.float32"
    )
