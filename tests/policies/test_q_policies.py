"""Policies of action values: which action they take, when they explore, and what their networks give."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.recurrent import GRU
from bbrl_exp.policies.q_network import ReturnAtoms, combined, combined_arrays
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.workspace import Workspace

BATCH = 4
OBSERVATION = LeafSpec("env/env_obs", "box", (3,), "float32", low=np.full(3, -1.0), high=np.full(3, 1.0))
IMAGE = LeafSpec("env/env_obs", "box", (3, 8, 8), "uint8", low=np.zeros((3, 8, 8)), high=np.full((3, 8, 8), 255))
CATEGORICAL: dict[str, Any] = {
    "distribution": "categorical",
    "n_atoms": 3,
    "lowest_return": -1.0,
    "highest_return": 1.0,
}
QUANTILE: dict[str, Any] = {"distribution": "quantile", "n_atoms": 4}


def spec(n_actions: int = 3, start: int = 0, observation: LeafSpec = OBSERVATION) -> EnvSpec:
    action = LeafSpec("action", "discrete", (), "int64", counts=np.array(n_actions), start=np.array(start))
    return EnvSpec("Toy", BATCH, (observation,), (action,))


def acted(policy: QPolicy | RecurrentQPolicy, n_steps: int, no_grad: bool = True) -> Workspace:
    workspace = Workspace()
    generator = torch.Generator().manual_seed(7)
    with torch.set_grad_enabled(not no_grad):
        for t in range(n_steps):
            workspace.set("env/env_obs", t, torch.randn(BATCH, 3, generator=generator))
            workspace.set("env/initial_state", t, torch.full((BATCH,), t % 5 == 0))
            policy(workspace, t=t)
    return workspace


@pytest.mark.parametrize("options", [{}, {"dueling": True}, {"layer_norm": True}, CATEGORICAL, QUANTILE])
def test_the_evaluated_policy_takes_the_action_of_the_highest_value(options: dict[str, Any]) -> None:
    policy = QPolicy(spec(start=5), (8, 8), seed=1, **options)
    policy.eval()
    workspace = acted(policy, 50)
    values = policy.network.values([workspace["env/env_obs"].flatten(0, 1)])
    assert torch.equal(workspace["action"].flatten(), values.argmax(1) + 5)
    assert len(workspace["action"].unique()) > 1


@pytest.mark.parametrize("make", [QPolicy, RecurrentQPolicy])
def test_epsilon_is_the_part_of_actions_that_are_drawn_uniformly(make: Any) -> None:
    policy = make(spec(n_actions=4, start=-2), seed=2)
    assert float(policy.exploration.epsilon) == 1.0
    uniform = torch.bincount(acted(policy, 2000)["action"].flatten() + 2, minlength=4) / (2000 * BATCH)
    torch.testing.assert_close(uniform, torch.full((4,), 0.25), atol=0.025, rtol=0)
    if make is RecurrentQPolicy:
        return  # what it has seen differs once it has acted otherwise
    policy.exploration.set_epsilon(0.2)
    explored = acted(policy, 2000)["action"]
    policy.eval()
    greedy = acted(policy, 2000)["action"]
    # A uniform draw is the greedy action once in four times.
    assert float((explored != greedy).float().mean()) == pytest.approx(0.2 * 3 / 4, abs=0.015)


@pytest.mark.parametrize("make", [QPolicy, RecurrentQPolicy])
@pytest.mark.parametrize("training", [True, False])
def test_tensors_and_arrays_act_alike(make: Any, training: bool) -> None:
    first, second = make(spec(), seed=3), make(spec(), seed=3)
    for policy in (first, second):
        policy.exploration.set_epsilon(0.3)
        policy.train(training)
    assert torch.equal(acted(first, 40)["action"], acted(second, 40, no_grad=False)["action"])


def test_a_recurrent_policy_unrolled_gives_the_values_that_it_acted_on() -> None:
    policy = RecurrentQPolicy(spec(), partial(GRU, n_hidden=8), seed=4)
    policy.eval()
    workspace = acted(policy, 12)
    starts = workspace["env/initial_state"]
    whole = policy.network.values([workspace["env/env_obs"]], workspace["policy/state"][0], starts)
    assert torch.equal(whole.argmax(2), workspace["action"])
    burnt_in = policy.network.values([workspace["env/env_obs"]], workspace["policy/state"][0], starts, burn_in=7)
    torch.testing.assert_close(burnt_in, whole[7:])


def test_epsilon_is_part_of_the_state_dict() -> None:
    policy, other = QPolicy(spec()), QPolicy(spec(), seed=9)
    policy.exploration.set_epsilon(0.125)
    other.load_state_dict(policy.state_dict())
    assert float(other.exploration.epsilon) == 0.125


def test_images_pass_through_convolutions() -> None:
    policy = QPolicy(spec(observation=IMAGE), (8,))
    workspace = Workspace()
    workspace.set("env/env_obs", 0, torch.zeros(BATCH, 3, 8, 8, dtype=torch.uint8))
    policy(workspace, t=0)
    assert workspace.get("action", 0).shape == (BATCH,)


def test_dueling_values_are_a_value_and_advantages_without_their_mean() -> None:
    outputs = torch.tensor([[10.0, 1.0, 2.0, 6.0]])
    expected = torch.tensor([[[8.0], [9.0], [13.0]]])
    assert torch.equal(combined(outputs, True, 1), expected)
    assert np.array_equal(combined_arrays(outputs.numpy(), True, 1), expected.numpy())


def test_a_distribution_is_worth_its_mean() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25]]]))
    categorical = ReturnAtoms("categorical", 3, -1.0, 3.0)
    torch.testing.assert_close(categorical.means(logits), torch.tensor([[0.5]]))
    np.testing.assert_allclose(categorical.means_on_arrays(logits.numpy()), [[0.5]], rtol=1e-6)
    quantiles = torch.tensor([[[0.0, 1.0, 5.0]]])
    assert float(ReturnAtoms("quantile", 3, 0.0, 0.0).means(quantiles)) == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_atoms": 5}, "no effect with distribution='none'"),
        ({"distribution": "quantile", "lowest_return": 0.0}, "no effect with distribution='quantile'"),
        ({"distribution": "categorical"}, "needs both"),
        ({**CATEGORICAL, "n_atoms": 1}, "at least 2"),
        ({"distribution": "c51"}, "one of none, categorical, quantile"),
        ({"hidden_sizes": [0]}, "whole numbers"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        QPolicy(spec(), **options)


def test_a_normalisation_of_no_layers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no effect without head_sizes"):
        RecurrentQPolicy(spec(), layer_norm=True)


def test_action_values_of_a_box_are_refused() -> None:
    box = LeafSpec("action", "box", (1,), "float32", low=np.full(1, -1.0), high=np.full(1, 1.0))
    with pytest.raises(ConfigurationError, match="one discrete action"):
        QPolicy(EnvSpec("Toy", BATCH, (OBSERVATION,), (box,)))
