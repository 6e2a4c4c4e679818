"""BBRL's small helpers."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from bbrl import get_arguments, get_class, instantiate_class
from bbrl.utils.chrono import Chrono
from bbrl.utils.utils import (
    get_env_dimensions,
    is_vec_of_ones,
    key_path_in_dict,
    make_gym_env,
    set_value_with_key_path,
    soft_param_update,
    vector_to_parameters,
)
from omegaconf import OmegaConf
from torch import nn

from bbrl_exp.errors import ConfigurationError

ADAM = {"classname": "torch.optim.Adam", "lr": 0.01}


def test_a_class_is_named_in_a_configuration() -> None:
    for cfg in (ADAM, OmegaConf.create(ADAM), SimpleNamespace(classname="torch.optim.Adam")):
        assert get_class(cfg) is torch.optim.Adam
    assert get_arguments(OmegaConf.create(ADAM)) == {"lr": 0.01}
    made = instantiate_class({"classname": "torch.nn.Linear", "in_features": 2, "out_features": 3})
    assert made.weight.shape == (3, 2)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"lr": 1}, "classname=None: must be a dotted name, such as torch.optim.Adam"),
        ({"classname": "Adam"}, "classname='Adam': must be a dotted name, such as torch.optim.Adam"),
        (
            {"classname": "torch.optim.Adan"},
            "classname=torch.optim.Adan: module 'torch.optim' has no 'Adan'; did you mean 'Adam'?",
        ),
    ],
)
def test_a_class_that_is_not_there_is_named(cfg: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        get_class(cfg)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0421, "0s 42ms"), (75.5, "1mn 15s 500ms"), (3723.0, "1h 2mn 3s 0ms")]
)
def test_a_clock_prints_its_time(seconds: float, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Chrono()
    clock.start -= seconds
    clock.stop()
    printed = capsys.readouterr().out
    expected = re.sub(r"\d+ms", r"\\d+ms", shown)
    assert re.fullmatch(f"Time : {expected}\n", printed)


def test_parameters_follow_others_and_are_set_from_a_vector() -> None:
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    expected = 0.25 * other.weight.detach() + 0.75 * one.weight.detach()
    soft_param_update(one, other, 0.25)
    assert torch.allclose(one.weight, expected)
    vector_to_parameters(torch.tensor([1.0, 2.0, 3.0]), one.parameters())
    assert (one.weight.tolist(), one.bias.tolist()) == ([[1, 2]], [3])
    with pytest.raises(ConfigurationError) as caught:
        vector_to_parameters(torch.zeros(4), one.parameters())
    assert str(caught.value) == "vec: expected 3 numbers, as many as the parameters have; found 4"


def test_paths_in_dictionaries() -> None:
    nested: dict[str, dict[str, int]] = {"a": {"b": 1}}
    assert key_path_in_dict(nested, "a.b")
    assert not key_path_in_dict(nested, "a.b.c")
    assert not key_path_in_dict(nested, "a.c")
    set_value_with_key_path(nested, "a.c", 2)
    assert nested == {"a": {"b": 1, "c": 2}}
    assert is_vec_of_ones(torch.ones(2, 3))
    assert not is_vec_of_ones(torch.tensor([[1.0, 0.0]]))


def test_environments_are_made_and_measured() -> None:
    assert make_gym_env(7, "CartPole-v1").spec.max_episode_steps == 7
    assert get_env_dimensions({"classname": "gymnasium.make", "id": "CartPole-v1"}) == (4, 2)
    assert get_env_dimensions({"classname": "gymnasium.make", "id": "Pendulum-v1"}) == (3, 1, 2.0)
