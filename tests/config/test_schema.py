"""What the root of a configuration accepts."""

import dataclasses
import math
import re
from typing import Any

import pytest

from bbrl_exp.commands.help import help_text
from bbrl_exp.config.schema import (
    AgentSettings,
    CheckpointSettings,
    EnvSettings,
    EvalSettings,
    RootSettings,
    StopSettings,
    check_group_keys,
    read_root,
)
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.tracking.settings import TrackingSettings

NODE = {"_target_": "bbrl_exp.agents.agent.Agent"}


def root(**changes: Any) -> dict[str, Any]:
    return {
        "agent": {"action_space": "any", "steps_per_chunk": 128, "members": {}, "learner": None},
        "env": {"agent": NODE},
        "tracking": {},
        "eval": {"every": None, "episodes": 10, "final_episodes": None, "seed": 0, "workers": 0},
        "checkpoint": {"every": None, "keep": 2},
        "resume": "auto",
        "pause_after": None,
        "dry_run": False,
        "init_from": None,
        "name": None,
        "seed": 0,
        "batch_size": 8,
        "total_steps": 100,
        "device": "cpu",
        "num_threads": 1,
        "debug": False,
        "graph": NODE,
        **changes,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("batch_size", -1),
        ("batch_size", 2.5),
        ("batch_size", math.nan),
        ("batch_size", ""),
        ("batch_size", None),
        ("batch_size", True),
        ("batch_size", "8"),
        ("total_steps", 0),
        ("num_threads", 0),
        ("init_from", 3),
        ("init_from", ""),
        ("resume", ""),
        ("resume", True),
        ("resume", None),
        ("checkpoint", None),
        ("seed", -1),
        ("seed", "x"),
        ("device", "gpu"),
        ("device", 0),
        ("name", "../x"),
        ("name", "a/b"),
        ("name", "."),
        ("name", ""),
        ("name", "multirun"),
        ("name", True),
        ("debug", 1),
        ("graph", None),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^key '{key}' = .*: must be "):
        read_root(root(**{key: value}))


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match="'batchsize' is not known; did you mean 'batch_size'"):
        read_root(root(batchsize=3))


def test_a_missing_key_is_refused() -> None:
    values = root()
    del values["seed"]
    with pytest.raises(ConfigurationError, match="'seed' is missing"):
        read_root(values)


def test_keys_below_env_agent_eval_and_checkpoint_are_checked_too() -> None:
    with pytest.raises(ConfigurationError, match=r"'checkpoint\.every' = -1: must be null or an integer of 0 or more"):
        read_root(root(checkpoint={"every": -1, "keep": 2}))
    with pytest.raises(ConfigurationError, match=r"'checkpoint\.keep' = 0: must be an integer of at least 1"):
        read_root(root(checkpoint={"every": None, "keep": 0}))
    with pytest.raises(ConfigurationError, match=r"'eval\.workers' = 2: must be 0 or 1"):
        read_root(root(eval={**root()["eval"], "workers": 2}))
    with pytest.raises(ConfigurationError, match=r"'agent\.steps_per_chunk' = 0"):
        read_root(root(agent={**root()["agent"], "steps_per_chunk": 0}))


def test_of_an_environment_only_its_agent_is_asked_for() -> None:
    node = {"_target_": "my.Sim"}
    assert read_root(root(env={"agent": node, "n_masses": 3})).env == {"agent": node, "n_masses": 3}
    with pytest.raises(ConfigurationError, match=r"'env\.agent' is missing"):
        read_root(root(env={"id": "CartPole-v1"}))


def test_an_override_below_env_that_nothing_refers_to_is_refused() -> None:
    env = {"agent": {"n": "${env.size.x}", "m": "${..far}", "k": "${env.kinds.${env.kind}}"}}
    used = {"size": {"x": 1}, "far": 2, "kinds": {"a": 1}, "kind": "a"}
    check_group_keys(
        {"env": {**env, **used}}, ["env.size.x=2", "env.far=1", "env.kind=a", "+env.kinds.b=1", "env.agent.n=3"]
    )
    check_group_keys({"env": {"agent": {}, "name": "x"}, "agent": {"label": "in ${env.name}"}}, ["env.name=y"])
    check_group_keys({"env": {**env, **used, "sizes": 3}}, ["seed=3"])
    with pytest.raises(ConfigurationError, match=r"'env\.sizes' is not known; did you mean 'size'\? known below 'env'"):
        check_group_keys({"env": {**env, **used, "sizes": 3}}, ["seed=3", "+env.sizes=3"])


def test_a_name_of_digits_is_a_name() -> None:
    assert read_root(root(name=42)).name == "42"
    assert read_root(root(name=2024.1)).name == "2024.1"


@pytest.mark.parametrize(
    ("prefix", "settings"),
    [
        ("", RootSettings),
        ("agent.", AgentSettings),
        ("env.", EnvSettings),
        ("eval.", EvalSettings),
        ("stop_when.", StopSettings),
        ("checkpoint.", CheckpointSettings),
        ("tracking.", TrackingSettings),
    ],
)
def test_help_explains_every_key(prefix: str, settings: type[Any]) -> None:
    text = help_text({"agent": ["random"]}, {})
    for key in dataclasses.fields(settings):
        assert re.search(rf"\n  {re.escape(prefix + key.name)} +{re.escape(key.metadata['help'])} \[", text)
