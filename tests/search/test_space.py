"""What Hydra's sweep grammar says, as dimensions of a search."""

from __future__ import annotations

import re

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from bbrl_exp.config.compose import Composer
from bbrl_exp.config.overrides import parse
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.search.space import Parameter, grid, parameter_of, read_space

RATE = "agent.learner.rate"


def parameter(composer: Composer, written: str) -> Parameter:
    return parameter_of(parse([f"{RATE}={written}"])[0])


@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ("interval(0, 1)", FloatDistribution(0.0, 1.0)),
        ("tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("int(interval(1, 10))", IntDistribution(1, 10)),
        ("int(tag(log, interval(1, 10)))", IntDistribution(1, 10, log=True)),
        ("range(1, 10, 4)", IntDistribution(1, 9, step=4)),
        ("range(5, 0, -2)", IntDistribution(1, 5, step=2)),
        ("tag(log, range(1, 9))", IntDistribution(1, 8, log=True)),
        ("range(0.1, 0.6, 0.1)", FloatDistribution(0.1, 0.5, step=0.1)),
        ("null,1,2.5,false,relu", CategoricalDistribution([None, 1, 2.5, False, "relu"])),
        ("choice(null, 0.1)", CategoricalDistribution([None, 0.1])),
        ("4,10", CategoricalDistribution([4, 10])),
        ("[64,64],[256,256]", CategoricalDistribution(["[64,64]", "[256,256]"])),
        ("'a b','c d'", CategoricalDistribution(["a b", "c d"])),
    ],
)
def test_a_sweep_is_a_distribution(written: str, distribution: object, composer: Composer) -> None:
    assert parameter(composer, written).distribution == distribution


@pytest.mark.parametrize(
    ("written", "value", "override"),
    [
        ("interval(0, 1)", 0.123456, "0.1235"),
        ("interval(0, 0.123449)", 0.123449, "0.1234"),
        ("interval(0.123451, 1)", 0.123451, "0.1235"),
        ("interval(0.12347, 1)", 0.12347, "0.1235"),
        ("interval(0.12343, 1)", 0.12343, "0.12343"),
        ("tag(log, interval(1e-6, 1))", 1.23456e-06, "1.235e-06"),
        ("interval(0, 2)", 1.0, "1.0"),
        ("int(interval(1, 10))", 7, "7"),
        ("range(0.1, 0.6, 0.1)", 0.30000000000000004, "0.3"),
        ("true,null,relu", None, "null"),
        ("[64, 64],[256, 256]", "[64,64]", "[64,64]"),
        ("'a b','c d'", "c d", "'c d'"),
    ],
)
def test_what_runs_get_is_short_and_within_the_ends(
    written: str, value: float, override: str, composer: Composer
) -> None:
    assert parameter(composer, written).override(value) == f"{RATE}={override}"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("interval(2, 1)", "must grow from a number to a larger one"),
        ("interval(0, inf)", "must grow from a number to a larger one"),
        ("tag(log, interval(0, 1))", "must begin above 0 to be drawn by its logarithm"),
        ("tag(log, range(2, 20, 2))", "with a step of 1 to be drawn by its logarithm"),
        ("tag(lgo, interval(1, 2))", "tag 'lgo' is not known here; known: log"),
        ("tag(log, choice(1, 2))", "tag 'log' is not known here; known: none"),
        ("shuffle(choice(1, 2))", "cannot be shuffled"),
        ("shuffle(range(1, 3))", "cannot be shuffled"),
        ("range(3, 1)", "is empty"),
        ("range(0, 1, 1e-7)", "has 10,000,000 values: must have at most 10,000; interval(...) has all of them"),
        ("choice(1, 2, 1)", "has 1 twice"),
    ],
)
def test_what_cannot_be_searched_is_refused(written: str, reason: str, composer: Composer) -> None:
    with pytest.raises(ConfigurationError, match=f"^search of '{RATE}' = {re.escape(written)}: .*{re.escape(reason)}"):
        parameter(composer, written)


def test_what_is_typed_wins_over_the_space_of_the_file(composer: Composer) -> None:
    params = {"a": "choice(1, 2)", "b": "choice(3, 4)", "c": "choice(5, 6)"}
    space, constant = read_space(params, parse(["env=pendulum", "b=interval(0, 1)", "c=5", "d=7,8"]))
    assert [(parameter.key, parameter.written) for parameter in space] == [
        ("a", "choice(1, 2)"),
        ("b", "interval(0, 1)"),
        ("d", "7,8"),
    ]
    assert constant == ("env=pendulum", "c=5")


@pytest.mark.parametrize(
    ("params", "typed", "reason"),
    [
        ({}, ["env=pendulum"], "a search needs a space"),
        ({"a": 3}, [], r"key 'hydra.sweeper.params.a' = 3: must be choice"),
        ({"a": "3"}, [], "give a single value as an ordinary override"),
        ({"a": {"b": "choice(1, 2)"}}, [], r"write a.<key>=interval"),
        ({"seed": "choice(1, 2)"}, [], r"key 'seed' cannot be set in a search: .* are hydra.sweeper.seeds"),
        ({}, ["seed=1,2"], r"key 'seed' cannot be set in a search"),
        ({"a": "choice(1, 2)"}, ["seed=1"], r"key 'seed' cannot be set in a search"),
        ({"a": "choice(1, 2)"}, ["pause_after=100"], "key 'pause_after' cannot be set in a search"),
        ({}, ["name=a,b"], "key 'name' cannot be set in a search: the search names its one folder"),
        ({"hydra.launcher.n_jobs": "choice(1, 2)"}, [], "key 'hydra.launcher.n_jobs' cannot be searched"),
    ],
)
def test_what_is_no_space_is_refused(
    params: dict[str, object], typed: list[str], reason: str, composer: Composer
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        read_space(params, parse(typed))


def test_a_grid_has_every_point_once(composer: Composer) -> None:
    space, _ = read_space({"a": "choice(1, 2)", "b": "range(0.5, 1.5, 0.5)"}, [])
    assert grid(space) == [{"a": 1, "b": 0.5}, {"a": 1, "b": 1.0}, {"a": 2, "b": 0.5}, {"a": 2, "b": 1.0}]


def test_a_grid_has_no_intervals(composer: Composer) -> None:
    space, _ = read_space({"a": "interval(1, 2)"}, [])
    with pytest.raises(ConfigurationError, match=r"search of 'a' = interval\(1, 2\): a grid needs choice"):
        grid(space)
