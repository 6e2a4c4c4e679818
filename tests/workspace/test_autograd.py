"""Gradients are right whatever is written between the forward and the backward pass."""

from __future__ import annotations

import pytest
import torch
import torch.multiprocessing
from numbered import recorded, row, table, write_next_chunk

from bbrl_exp.workspace import Workspace


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
