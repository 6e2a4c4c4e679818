"""The benchmark of BBRL programs: each of them runs under the layer, and its tables are right."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bbrl_exp import compat

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compat.install()
LABS, DRIVER = loaded("bbrl_programs_labs"), loaded("bbrl_programs")
SHORT = {"dqn": 560, "td3": 516, "a2c": 150, "ppo_clip": 520, "reinforce": 600, "ppo_lstm": 270}


@pytest.mark.parametrize("name", sorted(LABS.PROGRAMS))
def test_a_program_trains_and_its_policy_is_evaluated(name: str) -> None:
    train, env_id, wrappers, _ = LABS.PROGRAMS[name]
    torch.manual_seed(0)
    n_steps, policy, before = 0, None, None
    for n_steps, policy in train(0, SHORT[name]):  # noqa: B007
        before = before or [parameter.detach().clone() for parameter in policy.parameters()]
    assert n_steps >= SHORT[name]
    assert any(not torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    score = LABS.evaluate(policy, env_id, wrappers, 2)
    assert (8 <= score <= 500) if env_id == "CartPole-v1" else (-2000 <= score <= 0)


def test_the_tables_compare_both_sides() -> None:
    records = [
        {"side": side, "program": "dqn", "seed": seed, "scores": [first, last], "env_steps": 1000, "cpu_seconds": cpu}
        for side, cpu, scores in (("bbrl", 2.0, [(10, 20), (30, 40)]), ("compat", 1.0, [(0, 10), (10, 30)]))
        for seed, (first, last) in enumerate(scores)
    ]
    learning, speed = DRIVER.tables(records).split("\n\n")
    assert learning.splitlines()[2] == "| dqn | 2 | 1,000 | 30 ± 14 | 20 ± 14 | 25 ± 14 | 12 ± 11 |"
    assert speed.splitlines()[2] == "| dqn | 500 | 1,000 | 2.00× |"
