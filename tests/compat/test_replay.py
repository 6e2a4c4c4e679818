"""BBRL's replay buffer: order, overwriting, draws, refusals."""

from __future__ import annotations

import pytest
import torch
from bbrl.utils.replay_buffer import ReplayBuffer
from bbrl.workspace import Workspace

from bbrl_exp.errors import ConfigurationError, WorkspaceError


def transitions(first: int, stop: int) -> Workspace:
    """Transitions from i to i + 1, for i from ``first`` to ``stop - 1``, of two variables without a batch."""
    workspace = Workspace()
    workspace.set_full("place", torch.arange(first, stop + 1))
    workspace.set_full("double", 2.0 * torch.arange(first, stop + 1))
    workspace.set_full("env/done", torch.zeros(stop + 1 - first, dtype=torch.int64))
    return workspace.get_transitions()


def test_transitions_are_kept_in_order_and_drawn_whole() -> None:
    buffer = ReplayBuffer(100)
    assert (buffer.size(), buffer.variables) == (0, None)
    buffer.put(transitions(0, 50))
    assert (buffer.size(), buffer.is_full, buffer.position) == (50, False, 50)
    assert buffer.variables["place"][:50].tolist() == [[i, i + 1] for i in range(50)]
    drawn = buffer.get_shuffled(64)
    assert drawn["place"].shape == (2, 64)
    assert torch.equal(drawn["place"][1], drawn["place"][0] + 1)
    assert torch.equal(drawn["double"], 2.0 * drawn["place"])
    assert drawn["place"].max() <= 50


def test_the_oldest_are_overwritten() -> None:
    buffer = ReplayBuffer(max_size=1e1)
    for first in (0, 4, 8):
        buffer.put(transitions(first, first + 4))
    assert (buffer.size(), buffer.is_full, buffer.position) == (10, True, 2)
    assert buffer.variables["place"][:, 0].tolist() == [10, 11, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_buffer_that_is_just_filled_is_full() -> None:
    buffer = ReplayBuffer(4)
    buffer.put(transitions(0, 4))
    assert (buffer.is_full, buffer.position, buffer.size()) == (True, 0, 4)


def test_of_more_than_it_holds_the_last_are_kept() -> None:
    buffer = ReplayBuffer(3)
    buffer.put(transitions(0, 8))
    assert sorted(buffer.variables["place"][:, 0].tolist()) == [5, 6, 7]


def test_every_element_is_drawn_equally_often() -> None:
    torch.manual_seed(0)
    buffer = ReplayBuffer(8)
    buffer.put(transitions(0, 4))
    counts = buffer.get_shuffled(8000)["place"][0].bincount(minlength=4)
    assert counts.tolist() == pytest.approx([2000] * 4, abs=150)


def test_rows_that_would_not_fit_together_are_refused() -> None:
    buffer = ReplayBuffer(8)
    with pytest.raises(WorkspaceError) as caught:
        buffer.get_shuffled(1)
    assert str(caught.value) == "replay: nothing to draw, no element is stored yet"
    buffer.put(transitions(0, 2))
    other = transitions(2, 4)
    other.clear("double")
    with pytest.raises(WorkspaceError) as caught:
        buffer.put(other)
    assert str(caught.value) == (
        "replay: not in both the first workspace that was put and this one: double; put workspaces with the same "
        "variables"
    )
    other.set_full("double", torch.zeros(2, 2, 3))
    with pytest.raises(WorkspaceError) as caught:
        buffer.put(other)
    assert str(caught.value) == "replay: 'double': expected [2, 2] float32, found [2, 2, 3] float32"
    with pytest.raises(ConfigurationError, match="max_size=0: must be at least 1"):
        ReplayBuffer(0)
