"""DQN with each of its switches, PQN and recurrent DQN learn the values and the best actions of the probes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from harness import TrainedProbe, assert_best_actions, assert_true_values, train_probe
from torch import Tensor

from bbrl_exp.envs.probes import probe_states
from bbrl_exp.learners.dqn import DQN
from bbrl_exp.learners.pqn import PQN
from bbrl_exp.learners.recurrent_dqn import RecurrentDQN
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.9
# Where rewards never end and the observation is always zero: values then settle quickly, though only biases learn.
ENDLESS: dict[str, Any] = {"discount": 0.5, "learning_rate": 5e-2}
COMMON: dict[str, Any] = {
    "learning_rate": 1e-2,
    "anneal_learning_rate": True,
    "discount": DISCOUNT,
    "final_epsilon": 0.3,
}
REPLAYED: dict[str, Any] = {**COMMON, "learning_starts": 64, "updates_per_step": 0.5, "target_rate": 0.1}
CATEGORICAL = {"distribution": "categorical", "n_atoms": 41, "lowest_return": -1.5, "highest_return": 1.5}
SWITCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"double": False}),
    "copies": ({}, {"target_rate": None, "target_period": 24}),
    "double": ({}, {"double": True}),
    "dueling": ({"dueling": True}, {}),
    "n_steps": ({}, {"n_steps": 3}),
    "prioritised": ({}, {"prioritised": True}),
    "categorical": (CATEGORICAL, {}),
    "quantile": ({"distribution": "quantile", "n_atoms": 8}, {}),
    "everything": ({**CATEGORICAL, "dueling": True}, {"double": True, "n_steps": 2, "prioritised": True}),
}


def best_values(trained: TrainedProbe, workspace: Workspace) -> Tensor:
    policy: Any = trained.policy
    rows = workspace["env/env_obs"]
    if isinstance(policy, RecurrentQPolicy):
        return policy.network.values([rows], workspace["policy/state"][0], workspace["env/initial_state"])[-1].amax(1)
    values: Tensor = policy.network.values([rows[-1]])
    return values.amax(dim=1)


def options_of(probe: str) -> dict[str, Any]:
    return ENDLESS if probe == "TimeLimit" else {}


def trained_dqn(probe: str, batch_size: int, switch: str) -> TrainedProbe:
    of_policy, of_learner = SWITCHES[switch]
    return train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        lambda env_spec: QPolicy(env_spec, (16,), **of_policy),
        lambda _, policy: DQN(policy, **{**REPLAYED, **of_learner, **options_of(probe)}),  # type: ignore[arg-type]
        batch_size=batch_size,
        steps_per_chunk=16 // batch_size,
        chunks_per_recording=8,
        total_steps=800,
    )


def assert_learned(trained: TrainedProbe) -> None:
    discount = ENDLESS["discount"] if "TimeLimit" in trained.env_id else DISCOUNT
    assert_best_actions(trained, discount=discount)
    assert_true_values(trained, lambda workspace: best_values(trained, workspace), discount=discount)


@pytest.mark.parametrize(
    ("switch", "batch_size"), [("plain", 1), ("everything", 1), *((switch, 2) for switch in SWITCHES)]
)
def test_dqn_learns_values_and_best_actions(switch: str, batch_size: int) -> None:
    assert_learned(trained_dqn("ObservationAction", batch_size, switch))


@pytest.mark.parametrize("switch", ["plain", "n_steps", "everything"])
def test_dqn_discounts_what_comes_later(switch: str) -> None:
    assert_learned(trained_dqn("DelayedReward", 2, switch))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_dqn_bootstraps_at_a_time_limit(batch_size: int) -> None:
    assert_learned(trained_dqn("TimeLimit", batch_size, "n_steps"))


@pytest.mark.parametrize(("probe", "batch_size"), [("DelayedReward", 2), ("ObservationAction", 1), ("TimeLimit", 2)])
def test_pqn_learns_values_and_best_actions(probe: str, batch_size: int) -> None:
    trained = train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        lambda env_spec: QPolicy(env_spec, (16,), layer_norm=True),
        lambda _, policy: PQN(policy, **{**COMMON, **options_of(probe)}, minibatch_size=32),  # type: ignore[arg-type]
        batch_size=batch_size,
        steps_per_chunk=64 // batch_size,
        total_steps=64 * 40,
    )
    assert_learned(trained)


@pytest.mark.parametrize(
    ("probe", "kind", "n_steps", "batch_size"),
    [("DelayedReward", LSTM, 2, 2), ("TimeLimit", GRU, 2, 1), ("Memory", GRU, 1, 2)],
)
def test_recurrent_dqn_learns_values_and_best_actions(probe: str, kind: Any, n_steps: int, batch_size: int) -> None:
    trained = train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        lambda env_spec: RecurrentQPolicy(env_spec, partial(kind, n_hidden=16)),
        lambda _, policy: RecurrentDQN(  # type: ignore[arg-type]
            policy,  # type: ignore[arg-type]
            **{**REPLAYED, "updates_per_step": 0.25, **options_of(probe)},
            burn_in=3,
            sequence_length=8,
            n_steps=n_steps,
        ),
        batch_size=batch_size,
        steps_per_chunk=16 // batch_size,
        chunks_per_recording=8,
        total_steps=2400,
    )
    assert_learned(trained)


def test_a_network_without_memory_cannot_know_what_was_shown_before() -> None:
    trained = trained_dqn("Memory", 2, "double")
    at_the_end = [states for states in probe_states(trained.env_id, DISCOUNT) if states.best_action is not None]
    with torch.no_grad():
        values = [trained.policy.network.values([torch.tensor([s.observations[-1]])]).amax() for s in at_the_end]  # type: ignore[operator, union-attr]
    assert float(values[0]) == float(values[1])
