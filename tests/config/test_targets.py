"""Which classes a configuration may name, and how nodes are checked and built."""

import sys
from pathlib import Path

import pytest

from bbrl_exp.agents.tools import CopyTAgent, PrintAgent
from bbrl_exp.config.graph import check_nodes
from bbrl_exp.config.nodes import Node, build
from bbrl_exp.config.targets import NodeKind, check_kind, find_target, import_allowed_packages
from bbrl_exp.errors import ConfigurationError

PRINTER = "bbrl_exp.agents.tools.PrintAgent"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "numpy.load",
        "pandas.read_pickle",
        "gymnasium.make",
        "torch.nn.functional.relu",
        "torch.nn.init.torch.load",
        "bbrl_exp.seeding.random.Random",
        "bbrl_exp.seeding.numpy_generator",
        "bbrl_exp",
        "bbrl_exp.agents.tools:PrintAgent",
        "bbrl_exp..agents",
        "",
        None,
        3,
    ],
)
def test_what_is_no_class_of_an_allowed_package_is_refused(target: object) -> None:
    with pytest.raises(ConfigurationError, match=r"key 'x\._target_' = "):
        find_target(target, "x._target_")


def test_a_target_that_is_not_allowed_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "booby_trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="not allowed"):
        check_nodes({"agent": {"learner": None, "a": [{"_target_": "booby_trap.Agent"}]}, "graph": {}, "env": {}})
    assert "booby_trap" not in sys.modules


def test_a_package_of_the_user_is_found_once_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_things.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "users_things, other")
    assert find_target("users_things.Thing", "x").__name__ == "Thing"
    with pytest.raises(ConfigurationError, match="BBRL_EXP_ALLOW names 'other', which cannot be imported"):
        import_allowed_packages()


@pytest.mark.parametrize(
    ("target", "near"),
    [("bbrl_exp.agents.tools.PrintAgnt", "PrintAgent"), ("bbrl_exp.agents.tool.PrintAgent", "tools")],
)
def test_a_misspelt_target_is_told_with_the_nearest_name(target: str, near: str) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{near}'"):
        find_target(target, "x._target_")


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("member", "torch.nn.ReLU"),
        ("member", "gymnasium.wrappers.TimeLimit"),
        ("wrapper", PRINTER),
        ("wrapper", "gymnasium.wrappers.vector.RecordEpisodeStatistics"),
        ("wrapper", "gymnasium.wrappers.RecordVideo"),
        ("argument", "gymnasium.wrappers.TimeLimit"),
        ("argument", "bbrl_exp.envs.spec.EnvSpec"),
        ("argument", "torch.optim.Adam"),
        ("optimizer", "torch.nn.ReLU"),
        ("network", "torch.nn.ReLU"),
        ("network", "bbrl_exp.policies.stochastic.StochasticPolicy"),
        ("optimizer", "torch.optim.lr_scheduler.StepLR"),
    ],
)
def test_a_class_of_another_kind_than_its_place_asks_for_is_refused(kind: NodeKind, target: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^here: "):
        check_kind(find_target(target, "x"), kind, "here")


def test_an_argument_may_be_any_class_of_the_users_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_arguments.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "users_arguments")
    check_kind(find_target("users_arguments.Thing", "x"), "argument", "here")


def test_a_key_that_is_no_parameter_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match="no parameter 'nmes'; did you mean 'names'"):
        Node("x", "argument", {"_target_": PRINTER, "nmes": ["a"]}).check()


@pytest.mark.parametrize("names", [3, "action", [1]])
def test_a_value_of_another_type_than_the_parameter_is_refused(names: object) -> None:
    with pytest.raises(ConfigurationError, match=r"key 'x\.names' = .*: must be a list, each a text"):
        Node("x", "argument", {"_target_": PRINTER, "names": names}).check()


@pytest.mark.parametrize("key", ["_partial_", "_args_"])
def test_hydras_own_keys_of_a_node_are_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="not supported"):
        Node("x", "argument", {"_target_": PRINTER, key: True}).check()


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ConfigurationError, match="CopyTAgent needs output_name"):
        build({"_target_": "bbrl_exp.agents.tools.CopyTAgent", "input_name": "a"}, "x", lambda target: {})


def test_nodes_are_built_inside_lists_and_mappings() -> None:
    built = build(
        {
            "a": [{"_target_": PRINTER, "names": ["x", "y"]}],
            "b": {"_target_": "bbrl_exp.agents.tools.CopyTAgent", "input_name": "i", "output_name": "o"},
            "c": 3,
        },
        "x",
        lambda target: {},
    )
    assert isinstance(built["a"][0], PrintAgent)
    assert built["a"][0].names == ("x", "y")
    assert isinstance(built["b"], CopyTAgent)
    assert built["c"] == 3
