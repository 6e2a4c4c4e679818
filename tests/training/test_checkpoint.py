"""Policies on disk: whole or refused, and loaded where names and shapes fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.training.checkpoint import (
    load_fitting,
    load_graph,
    policy_state,
    read_checkpoint,
    write_checkpoint,
)


class Learns(nn.Module):
    def __init__(self, policy: nn.Module, width: int) -> None:
        super().__init__()
        self.policy = policy
        self.critic = nn.Linear(width, 1)
        self.bias = nn.Parameter(torch.arange(3.0))
        self.register_buffer("passing", torch.zeros(1), persistent=False)


def test_what_is_written_is_read_and_its_checksum_stands_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.pt"
    for value in (1.0, 2.0):
        write_checkpoint(path, {"graph": {"w": torch.tensor([value])}, "learner": {}}, {"env_steps": 5})
        found = read_checkpoint(path)
        assert (found["state"]["graph"]["w"].item(), found["meta"]) == (value, {"env_steps": 5})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (path.parent / "last.pt.sha256").read_text() == f"{digest}  last.pt\n"
    assert {entry.name for entry in path.parent.iterdir()} == {"last.pt", "last.pt.sha256"}


def test_a_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "best.pt"
    write_checkpoint(path, {}, {})
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ConfigurationError, match="damaged"):
        read_checkpoint(path)
    with pytest.raises(ConfigurationError, match=r"no checkpoint .*last\.pt"):
        read_checkpoint(path.with_name("last.pt"))


def test_a_file_that_is_replaced_while_it_is_read_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"number": 1}, {})
    read_bytes = Path.read_bytes

    def read_and_replaced(file: Path) -> bytes:
        contents = read_bytes(file)
        write_checkpoint(path, {"number": 2}, {})
        return contents

    monkeypatch.setattr(Path, "read_bytes", read_and_replaced)
    assert read_checkpoint(path)["state"] == {"number": 1}
    monkeypatch.undo()
    assert read_checkpoint(path)["state"] == {"number": 2}


def test_the_learners_part_holds_what_the_graph_does_not_and_is_loaded_where_it_fits() -> None:
    policy, other = nn.Linear(2, 2), nn.Linear(2, 2)
    state = policy_state(policy, Learns(policy, 4))
    assert set(state["graph"]) == {"weight", "bias"}
    assert set(state["learner"]) == {"critic.weight", "critic.bias", "bias"}
    wider = Learns(other, 5)
    before = {name: tensor.clone() for name, tensor in wider.critic.named_parameters()}
    with torch.no_grad():
        wider.bias.zero_()
    load_graph(other, state, "here")
    assert load_fitting(wider, other, state) == ("critic",)
    assert torch.equal(other.weight, policy.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in wider.critic.named_parameters())
    assert wider.bias.tolist() == [0.0, 1.0, 2.0]


def test_a_graph_of_other_parameters_is_refused_by_name_and_shape() -> None:
    state = policy_state(nn.Linear(2, 2), None)
    with pytest.raises(ConfigurationError, match=r"here: .*'weight' is \[2, 2\] there and \[2, 3\] here"):
        load_graph(nn.Linear(3, 2), state, "here")


def test_a_file_is_whole_however_often_its_replacement_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "best.pt"
    write_checkpoint(path, {"number": 1}, {})
    replace = Path.replace

    def cut_short(self: Path, target: Path) -> Path:
        if target == path:
            raise KeyboardInterrupt
        return replace(self, target)

    for number in (2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", cut_short)
            with pytest.raises(KeyboardInterrupt):
                write_checkpoint(path, {"number": number}, {})
        assert read_checkpoint(path)["state"] == {"number": 1}
    write_checkpoint(path, {"number": 4}, {})
    assert len((path.parent / "best.pt.sha256").read_text().splitlines()) == 1
