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
    read_root,
)
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.tracking.settings import TrackingSettings

NODE = {"_target_": "bbrl_exp.agents.agent.Agent"}


def root(**changes: Any) -> dict[str, Any]:
    return {
        "agent": {"action_space": "any", "steps_per_chunk": 128, "members": {}, "learner": None},
        "env": {
            "id": "CartPole-v1",
            "stepping": "auto",
            "workers": 0,
            "worker_timeout": 60.0,
            "wrappers": {},
            "kwargs": {},
            "clip_actions": True,
            "info_keys": [],
            "agent": NODE,
        },
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
    with pytest.raises(ConfigurationError, match=r"'env\.workers' = -1"):
        read_root(root(env={**root()["env"], "workers": -1}))
    with pytest.raises(ConfigurationError, match=r"'agent\.steps_per_chunk' = 0"):
        read_root(root(agent={**root()["agent"], "steps_per_chunk": 0}))


@pytest.mark.parametrize(("stepping", "workers"), [("scalar", 2), ("vectorized", 1), ("workers", 0)])
def test_stepping_and_workers_that_contradict_each_other_are_refused(stepping: str, workers: int) -> None:
    with pytest.raises(ConfigurationError, match=r"env\.workers"):
        read_root(root(env={**root()["env"], "stepping": stepping, "workers": workers}))


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
        ("checkpoint.", CheckpointSettings),
        ("tracking.", TrackingSettings),
    ],
)
def test_help_explains_every_key(prefix: str, settings: type[Any]) -> None:
    text = help_text({"agent": ["random"]}, {})
    for key in dataclasses.fields(settings):
        assert re.search(rf"\n  {re.escape(prefix + key.name)} +{re.escape(key.metadata['help'])} \[", text)
