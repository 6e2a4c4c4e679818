"""Networks of the user's own in policies and critics: what they see, when they train, who shares them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.recurrent import GRU
from bbrl_exp.policies.observation import ObservationFeatures
from bbrl_exp.policies.population import MEAN, PopulationPolicy
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.recurrent import RecurrentPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import SharedTrunkCritic
from bbrl_exp.workspace import Workspace

B = 3
ACTION = LeafSpec("action", "discrete", (), "int64", counts=np.array(2))


class Sums(nn.Module):
    """The sums of the leaves; it keeps the shape that it was built with, and what it saw last."""

    def __init__(self, input_shape: Any) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.n_features = len(input_shape) if isinstance(input_shape, dict) else 1
        self.seen: Any = None

    def forward(self, observation: Any) -> Tensor:
        self.seen = observation
        leaves = observation.values() if isinstance(observation, dict) else [observation]
        return torch.stack([leaf.flatten(1).sum(dim=1) for leaf in leaves], dim=1)


class Layer(nn.Module):
    """tanh(w x), which knows how often it was in training mode."""

    def __init__(self, input_shape: tuple[int, ...], n_features: int = 2) -> None:
        super().__init__()
        self.n_features = n_features
        self.layer = nn.Linear(input_shape[0], n_features)
        self.modes: list[bool] = []

    def forward(self, observation: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.layer(observation).tanh()


def box(name: str, *shape: int, dtype: str = "float32") -> LeafSpec:
    low, high = (0, 255) if dtype == "uint8" else (-1, 1)
    return LeafSpec(name, "box", shape, dtype, low=np.full(shape, low, dtype), high=np.full(shape, high, dtype))


def spec(*leaves: LeafSpec, action: LeafSpec = ACTION) -> EnvSpec:
    return EnvSpec("Toy", B, leaves, (action,))


VECTOR = spec(box("env/env_obs", 4))


def sums_of(*leaves: LeafSpec, prefix: str = "") -> tuple[ObservationFeatures, Sums]:
    features = ObservationFeatures(spec(*leaves), prefix, network=Sums)
    assert isinstance(features.network, Sums)
    return features, features.network


@pytest.mark.parametrize(
    ("leaf", "observation", "shape", "seen"),
    [
        (box("env/env_obs", 2), torch.tensor([[1.0, 2.0]]), (2,), [[1.0, 2.0]]),
        (box("env/env_obs"), torch.tensor([3.0]), (1,), [[3.0]]),
        (box("env/env_obs", 1, 2, dtype="float64"), torch.tensor([[[1.0, 2.0]]]).double(), (1, 2), [[[1.0, 2.0]]]),
        (box("env/env_obs", 1, 3, dtype="uint8"), torch.tensor([[[0, 51, 255]]]).byte(), (1, 3), [[[0.0, 0.2, 1.0]]]),
        (
            LeafSpec("env/env_obs", "discrete", (), "int64", counts=np.array(3), start=np.array(5)),
            torch.tensor([6]),
            (3,),
            [[0.0, 1.0, 0.0]],
        ),
        (
            LeafSpec("env/env_obs", "multi_discrete", (2,), "int64", counts=np.array([2, 3])),
            torch.tensor([[1, 2]]),
            (5,),
            [[0.0, 1.0, 0.0, 0.0, 1.0]],
        ),
        (
            LeafSpec("env/env_obs", "multi_binary", (2,), "int8", counts=np.array([2, 2])),
            torch.tensor([[1, 0]]).char(),
            (2,),
            [[1.0, 0.0]],
        ),
    ],
)
def test_a_network_sees_the_leaf_in_its_own_shape_as_float32(
    leaf: LeafSpec, observation: Tensor, shape: tuple[int, ...], seen: list[Any]
) -> None:
    features, network = sums_of(leaf)
    features([observation])
    assert network.input_shape == shape
    assert network.seen.dtype == torch.float32
    torch.testing.assert_close(network.seen, torch.tensor(seen))


@pytest.mark.parametrize("prefix", ["", "normalized/"])
def test_leaves_of_a_dict_space_come_by_their_keys_whatever_the_prefix(prefix: str) -> None:
    features, network = sums_of(box("env/env_obs/arm/angle", 2), box("env/env_obs/picture", 4, 4), prefix=prefix)
    assert network.input_shape == {"arm/angle": (2,), "picture": (4, 4)}
    assert features.names == (f"{prefix}env/env_obs/arm/angle", f"{prefix}env/env_obs/picture")
    assert features([torch.ones(B, 2), torch.ones(B, 4, 4)]).tolist() == [[2.0, 16.0]] * B


def test_a_dict_space_of_one_key_is_a_mapping_too() -> None:
    assert sums_of(box("env/env_obs/only", 2))[1].input_shape == {"only": (2,)}


def test_a_network_is_in_training_mode_where_gradients_are_recorded_only() -> None:
    policy = StochasticPolicy(VECTOR, network=Layer)
    network: Any = policy.features.network
    network.modes.clear()
    seen = [torch.ones(B, 4)]
    policy.distribution(seen)
    with torch.no_grad():
        policy.distribution(seen)
    policy.distribution(seen)
    policy.eval().distribution(seen)
    assert network.modes == [True, False, True, False]


def test_hidden_layers_are_between_the_network_and_the_heads() -> None:
    with_layers, without = (StochasticPolicy(VECTOR, sizes, network=Layer) for sizes in ((5,), ()))
    assert [layer.weight.shape for layer in with_layers.network.layers] == [(5, 2), (2, 5)]  # type: ignore[union-attr]
    seen = torch.ones(B, 4)
    assert torch.equal(without.latent([seen]), without.features.network(seen))  # type: ignore[misc]


def test_the_same_seed_gives_the_same_network_and_another_seed_another() -> None:
    def weight(seed: int) -> Tensor:
        torch.rand(1)
        return StochasticPolicy(VECTOR, network=Layer, seed=seed).features.network.layer.weight  # type: ignore[no-any-return, union-attr]

    assert torch.equal(weight(1), weight(1))
    assert not torch.equal(weight(1), weight(2))


def test_a_shared_critic_learns_the_network_of_the_policy() -> None:
    policy = StochasticPolicy(VECTOR, hidden_sizes=[], network=Layer)
    critic = SharedTrunkCritic(policy)
    assert critic.output.in_features == 2
    critic.values([torch.ones(B, 4)]).sum().backward()
    assert policy.features.network.layer.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_critics_of_an_ensemble_share_the_network_and_see_the_action_beside_its_features() -> None:
    action = LeafSpec("action", "box", (1,), "float32", low=-np.ones(1, np.float32), high=np.ones(1, np.float32))
    critic = QEnsemble(spec(*VECTOR.observations, action=action), 3, (5,), network=Layer)
    assert critic.network.weights[0].shape == (3, 2 + 1, 5)
    values = critic.values([torch.ones(B, 4)], torch.zeros(B, 1))
    assert values.shape == (3, B)
    assert not torch.allclose(values, critic.values([torch.ones(B, 4)], torch.ones(B, 1)))


def test_a_memory_sees_the_features_of_the_network_and_passes_gradients_on() -> None:
    policy = RecurrentPolicy(VECTOR, partial(GRU, n_hidden=3), network=Layer)
    starts = torch.zeros(5, B, dtype=torch.bool)
    latent = policy.latent([torch.rand(5, B, 4)], policy.memory.cell.initial_state(B), starts)
    assert policy.memory.cell.input_weight.shape == (9, 2)
    latent.sum().backward()
    assert policy.memory.inputs.observation.network.layer.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_candidates_of_a_population_have_their_own_networks_and_begin_around_the_networks_parameters() -> None:
    policy = PopulationPolicy(VECTOR, population_size=2, network=Layer)
    network: Any = policy.features.network
    assert torch.equal(policy.mean[:10], torch.cat((network.layer.weight.flatten(), network.layer.bias)).detach())
    assert policy.mean[10:].tolist() == [0.0] * (3 * 2)
    candidates = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    policy.begin_generation(candidates)
    workspace, seen = Workspace(), torch.rand(B, 4)
    workspace.set("env/env_obs", 0, seen)
    workspace.set("env/initial_state", 0, torch.ones(B, dtype=torch.bool))
    with torch.no_grad():
        policy(workspace, t=0)
    assert workspace.get("policy/candidate", 0).tolist() == [0, 1, MEAN]
    for row, parameters in enumerate((*candidates, policy.mean)):
        weight, bias, head, head_bias = torch.split(parameters, [8, 2, 4, 2])
        features = (weight.view(2, 4) @ seen[row] + bias).tanh()
        expected = (features @ head.view(2, 2) + head_bias).argmax()
        assert workspace.get("action", 0)[row] == expected


def test_a_population_takes_pictures_with_a_network_only() -> None:
    picture = box("env/env_obs", 8, 8, 1, dtype="uint8")
    assert len(PopulationPolicy(spec(picture), network=Sums).mean) == (1 + 1) * 2
    with pytest.raises(ConfigurationError) as refused:
        PopulationPolicy(spec(picture))
    assert str(refused.value) == (
        "observed images need convolutions, which a population of policies has only in your own `network` "
        "(docs/networks.md)"
    )


def test_a_policy_with_a_network_acts_the_same_with_and_without_gradients() -> None:
    policy = StochasticPolicy(VECTOR, network=Layer)
    graph = TemporalAgent(Agents(policy)).eval()
    actions = []
    for is_recorded in (True, False):
        workspace = Workspace()
        workspace.set("env/env_obs", 0, torch.linspace(-1, 1, B * 4).view(B, 4))
        with torch.set_grad_enabled(is_recorded):
            graph(workspace, t=0, n_steps=1)
        actions.append(workspace["action"].tolist())
    assert actions[0] == actions[1]
