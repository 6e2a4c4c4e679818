"""Which configurations are those of the same run."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.compose import Composer
from bbrl_exp.config.identity import differing_keys, identity, identity_hash
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.errors import ConfigurationError

# Nothing here that changes is in the graph, so that it stays small; the whole one is composed once below.
CONFIG: dict[str, Any] = {
    "agent": {"members": {"env": {"_target_": "a.Env"}, "policy": {"_target_": "a.Policy", "rate": 0.1}}},
    "env": {"id": "CartPole-v1", "stepping": "auto", "workers": 0, "worker_timeout": 60.0, "wrappers": {}},
    "eval": {"every": None, "episodes": 10, "seed": 0, "workers": 0},
    "tracking": {"enabled": True, "include": ["*"]},
    "checkpoint": {"every": None, "keep": 2},
    "name": None,
    "resume": "auto",
    "seed": 0,
    "batch_size": 8,
    "total_steps": 100,
    "graph": {"agent": "${agent}", "env_id": "${env.id}"},
    "hydra": {"job": {"num": 1}},
}


def config(**changes: Any) -> DictConfig:
    """The configuration with changes by dotted key, of which ``__`` stands for the dot."""
    made = OmegaConf.create(CONFIG)
    for key, value in changes.items():
        OmegaConf.update(made, key.replace("__", "."), value, merge=False)
    return made


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x"},
        {"resume": "never"},
        {"pause_after": 7},
        {"resume": "outputs/x"},
        {"tracking": {"enabled": False}},
        {"checkpoint__every": 7},
        {"checkpoint__keep": 1},
        {"env__workers": 2},
        {"env__worker_timeout": 5.0},
        {"env__stepping": "scalar"},
        {"env__stepping": "workers", "env__workers": 4},
        {"eval__workers": 1},
        {"hydra__job__num": 2},
    ],
    ids=str,
)
def test_what_a_run_keeps_and_is_called_and_who_does_its_work_make_no_other_run(changes: dict[str, Any]) -> None:
    assert identity(config(**changes)) == identity(config())
    assert identity_hash(config(**changes)) == identity_hash(config())


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"seed": 1}, ["seed"]),
        ({"batch_size": 4}, ["batch_size"]),
        ({"total_steps": 101}, ["total_steps"]),
        ({"eval__seed": 1}, ["eval.seed"]),
        ({"eval__episodes": 1, "eval__every": 5}, ["eval.episodes", "eval.every"]),
        ({"env__id": "Acrobot-v1"}, ["env.id", "graph.env_id"]),
        ({"env__stepping": "vectorized"}, ["env.stepping"]),
        ({"env__wrappers__mask": {"_target_": "a.Mask"}}, ["env.wrappers", "env.wrappers.mask._target_"]),
        (
            {"agent__members__policy__rate": 0.2},
            ["agent.members.policy.rate", "graph.agent.members.policy.rate"],
        ),
    ],
    ids=str,
)
def test_everything_else_makes_another_run_and_is_named_the_graph_last(
    changes: dict[str, Any], keys: list[str]
) -> None:
    one, other = identity(config()), identity(config(**changes))
    assert differing_keys(one, other) == differing_keys(other, one) == keys
    assert identity_hash(config()) != identity_hash(config(**changes))


def test_equal_identities_differ_in_nothing() -> None:
    assert differing_keys(identity(config()), identity(config())) == []


def test_a_value_and_a_missing_key_are_different_even_where_the_value_is_null() -> None:
    assert differing_keys({"a": None}, {}) == ["a"]
    assert differing_keys({"a": {}}, {"a": {"b": None}}) == ["a", "a.b"]


def test_the_order_of_agents_counts_and_that_of_groups_does_not() -> None:
    members = CONFIG["agent"]["members"]
    turned = config(agent={"members": {"policy": members["policy"], "env": members["env"]}})
    assert identity_hash(turned) != identity_hash(config())
    assert differing_keys(identity(turned), identity(config())) == ["agent.members"]
    assert identity_hash(OmegaConf.create(dict(reversed(CONFIG.items())))) == identity_hash(config())


def test_the_configuration_itself_is_left_as_it_is() -> None:
    made = config(name="x", env__workers=3)
    identity(made)
    assert made == config(name="x", env__workers=3)


@pytest.mark.parametrize("value", ["${nowhere}", "???"])
def test_a_value_that_cannot_be_resolved_is_one_line(value: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        identity(config(seed=value))
    assert "\n" not in str(error.value)


def test_a_run_of_the_front_door_is_the_same_with_other_records_and_another_with_another_agent() -> None:
    with Composer(default_config_dir()) as composer:
        front = composer.compose([])
        same = composer.compose(["tracking=none", "name=x", "env.workers=2", "checkpoint.every=0", "resume=never"])
        other = composer.compose(["agent=constant"])
    assert differing_keys(identity(front), identity(same)) == []
    assert differing_keys(identity(front), identity(other))[0] == "agent.members.policy._target_"


def test_a_setting_may_refer_to_what_is_free_and_still_counts() -> None:
    one, same, other = (
        identity(config(eval__every="${checkpoint.every}", checkpoint__every=every, checkpoint__keep=keep))
        for every, keep in ((7, 1), (7, 2), (8, 1))
    )
    assert differing_keys(one, same) == []
    assert differing_keys(one, other) == ["eval.every"]
