"""The cross-entropy method finds the best actions of the probes, in one environment and in several."""

from __future__ import annotations

from typing import Any

import pytest
from harness import assert_best_actions, train_probe

from bbrl_exp.agents import Agent
from bbrl_exp.envs import EnvSpec
from bbrl_exp.learners.cem import CrossEntropyMethod
from bbrl_exp.learners.learner import Learner
from bbrl_exp.policies.population import PopulationPolicy


def a_population(env_spec: EnvSpec) -> Agent:
    return PopulationPolicy(env_spec, population_size=16, episodes_per_candidate=8)


def a_learner(env_spec: EnvSpec, policy: Any) -> Learner:
    return CrossEntropyMethod(policy, elite_fraction=0.25, extra_variance=0.5, extra_variance_generations=8)


@pytest.mark.parametrize(
    ("probe", "batch_size"), [("Action", 1), ("ObservationAction", 2), ("ObservationActionContinuous", 5)]
)
def test_the_best_actions_are_found(probe: str, batch_size: int) -> None:
    trained = train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        a_population,
        a_learner,
        batch_size=batch_size,
        steps_per_chunk=40 // batch_size,
        total_steps=16 * 8 * 2 * 20,
    )
    assert_best_actions(trained, discount=0.9)
