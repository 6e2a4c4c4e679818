"""A node whose class needs something that only its owner has: it is checked at once, and called later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from torch import nn

from bbrl_exp.arguments import BuiltLater
from bbrl_exp.config.nodes import CalledLater, Node, build, nodes_below
from bbrl_exp.errors import ConfigurationError

Make = Annotated[
    Callable[..., torch.optim.Optimizer], BuiltLater("optimizer", ("params", "lr"), ("fast_rate", "slow_rate"))
]
PACKAGE = """
from tests_of_nodes import Make


class Owner:
    def __init__(self, optimizer: Make | None = None, weights: list[float] | None = None):
        self.optimizer = optimizer


class Careful:
    def __init__(self, params, lr):
        pass
"""


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The target of a class that takes the node of an optimizer."""
    (tmp_path / "owners.py").write_text(PACKAGE.replace("tests_of_nodes", __name__), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "owners")
    return "owners.Owner"


def check(config: dict[str, Any]) -> None:
    for node in nodes_below(config, "x"):
        node.check()


def test_the_owner_gets_a_callable_that_has_what_the_node_says(owner: str) -> None:
    config = {"_target_": owner, "optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.25}}
    check(config)
    make = build(config, "x", lambda target: {}).optimizer
    assert make == CalledLater(torch.optim.AdamW, {"weight_decay": 0.25}, "x.optimizer")
    made = make([nn.Parameter(torch.zeros(1))], lr=0.5)
    assert (type(made), made.defaults["lr"], made.defaults["weight_decay"]) == (torch.optim.AdamW, 0.5, 0.25)


def test_null_leaves_the_choice_to_the_owner(owner: str) -> None:
    config = {"_target_": owner, "optimizer": None}
    check(config)
    assert build(config, "x", lambda target: {}).optimizer is None


@pytest.mark.parametrize(
    ("optimizer", "complaint"),
    [
        (
            {"_target_": "torch.optim.AdamW", "lr": 0.1},
            "key 'x.optimizer.lr': Owner fills it in; set x.fast_rate and x.slow_rate instead",
        ),
        ({"_target_": "torch.optim.AdamW", "params": []}, "key 'x.optimizer.params': Owner fills it in; remove it"),
        (
            {"_target_": "torch.nn.ReLU"},
            "key 'x.optimizer._target_' = 'torch.nn.ReLU': must be a torch.optim.Optimizer",
        ),
        (
            {"_target_": "owners.Careful"},
            "key 'x.optimizer._target_' = 'owners.Careful': must be a torch.optim.Optimizer",
        ),
        (
            {"_target_": "torch.optim.SGD", "momentun": 0.9},
            "key 'x.optimizer': SGD has no parameter 'momentun'; did you mean 'momentum'? known: momentum, dampening, "
            "weight_decay, nesterov, maximize, foreach, differentiable, fused",
        ),
        ("adam", "key 'x.optimizer' = 'adam': must be a node with a _target_ or null (Owner)"),
    ],
)
def test_a_node_that_cannot_be_called_later_is_refused_with_its_key(
    owner: str, optimizer: object, complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check({"_target_": owner, "optimizer": optimizer})
    assert str(refused.value) == complaint


def test_what_the_class_refuses_when_it_is_called_names_the_key(owner: str) -> None:
    config = {"_target_": owner, "optimizer": {"_target_": "torch.optim.SGD", "momentum": -1.0}}
    make = build(config, "x", lambda target: {}).optimizer
    with pytest.raises(ConfigurationError) as refused:
        make([nn.Parameter(torch.zeros(1))], lr=0.5)
    assert str(refused.value) == "key 'x.optimizer': SGD refuses its arguments: Invalid momentum value: -1.0"


def test_a_node_that_no_class_asks_for_later_is_of_the_kind_of_its_place() -> None:
    with pytest.raises(ConfigurationError, match=r"must be an Agent or a torch\.nn\.Module"):
        Node("x", "argument", {"_target_": "torch.optim.SGD"}).check()
