"""Observations of every kind become one vector of features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.policies.observation import ObservationFeatures
from bbrl_exp.workspace import Workspace

B = 3


def box(name: str, *shape: int, dtype: str = "float32") -> LeafSpec:
    low, high = (0, 255) if dtype == "uint8" else (-1, 1)
    return LeafSpec(name, "box", shape, dtype, low=np.full(shape, low, dtype), high=np.full(shape, high, dtype))


def features_of(*leaves: LeafSpec, prefix: str = "") -> ObservationFeatures:
    return ObservationFeatures(EnvSpec("Toy", B, leaves, ()), prefix, torch.Generator().manual_seed(0))


VECTOR = box("env/env_obs", 4)
CHOICE = LeafSpec("env/env_obs", "discrete", (), "int64", counts=np.array(3), start=np.array(5))
CHOICES = LeafSpec("env/env_obs", "multi_discrete", (2,), "int64", counts=np.array([2, 3]), start=np.array([0, -1]))
SWITCHES = LeafSpec("env/env_obs", "multi_binary", (3,), "int8", counts=np.array([2, 2, 2]))


def test_one_vector_of_floats_is_its_own_features() -> None:
    features, observation = features_of(VECTOR), torch.arange(12.0).view(B, 4)
    assert features.is_one_vector
    assert features.n_features == 4
    assert features([observation]) is observation


def test_a_number_for_each_environment_is_a_feature() -> None:
    features = features_of(box("env/env_obs"))
    assert not features.is_one_vector
    assert features([torch.tensor([1.0, 2.0, 3.0])]).tolist() == [[1.0], [2.0], [3.0]]


def test_doubles_become_floats_and_shapes_flat() -> None:
    features = features_of(box("env/env_obs", 2, 2, dtype="float64"))
    observation = torch.arange(12.0, dtype=torch.float64).view(B, 2, 2)
    assert torch.equal(features([observation]), torch.arange(12.0).view(B, 4))
    assert not features.is_one_vector


def test_a_choice_is_one_hot_from_its_smallest_value_on() -> None:
    found = features_of(CHOICE)([torch.tensor([5, 7, 6])])
    assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert found.dtype == torch.float32


def test_choices_are_one_hot_side_by_side_and_switches_are_numbers() -> None:
    found = features_of(CHOICES)([torch.tensor([[0, -1], [1, 1], [1, 0]])])
    assert found.tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 1, 0]]
    switches = features_of(SWITCHES)([torch.tensor([[0, 1, 0]] * B, dtype=torch.int8)])
    assert switches[0].tolist() == [0, 1, 0]


def grid(*shape: int, counts: tuple[int, ...] = (3, 2), dtype: str = "uint8") -> LeafSpec:
    of_cells = np.broadcast_to(np.array(counts), (*shape, len(counts))).copy()
    leaf_shape = (*shape, len(counts))
    return LeafSpec("env/env_obs", "multi_discrete", leaf_shape, dtype, counts=of_cells, start=np.zeros_like(of_cells))


def test_a_grid_of_categories_is_convolved_and_a_network_sees_its_planes() -> None:
    features = features_of(grid(5, 4))
    assert [tuple(parameter.shape) for parameter in features.parameters()][:1] == [(16, 5, 3, 3)]
    cells = torch.zeros(B, 5, 4, 2, dtype=torch.uint8)
    assert features([cells]).shape == (B, features.n_features)
    seen = ObservationFeatures(EnvSpec("Toy", B, (grid(5, 4),), ()), network=Sum)
    assert isinstance(seen.network, Sum)
    assert seen.network.input_shape == (5, 4, 5)
    assert seen([cells]).tolist() == [[20.0, 0.0, 0.0, 20.0, 0.0]] * B


class Sum(torch.nn.Module):
    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.input_shape, self.n_features = input_shape, input_shape[-1]

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation.sum(dim=(1, 2))


def test_choices_that_are_no_grid_are_one_hot_side_by_side() -> None:
    too_small = grid(2, 4)
    unlike = grid(3, 3)
    unlike.counts[1, 1] = [2, 2]  # type: ignore[index]
    for leaf, n_features in ((too_small, 2 * 4 * 5), (unlike, 9 * 5 - 1)):
        features = features_of(leaf)
        assert features.n_features == n_features
        assert next(features.parameters(), None) is None


def test_bytes_that_are_no_image_are_divided_by_255() -> None:
    features = features_of(box("env/env_obs", 5, dtype="uint8"))
    found = features([torch.full((B, 5), 255, dtype=torch.uint8)])
    torch.testing.assert_close(found, torch.ones(B, 5))


@pytest.mark.parametrize("shape", [(3, 1, 8), (2, 2), (1, 8), (2, 2, 2, 2, 2)])
def test_bytes_too_small_for_convolutions_are_flat(shape: tuple[int, ...]) -> None:
    features = features_of(box("env/env_obs", *shape, dtype="uint8"))
    assert features.n_features == np.prod(shape)
    assert next(features.parameters(), None) is None


@pytest.mark.parametrize("shape", [(4, 12, 12), (12, 12, 3), (12, 12), (4, 12, 12, 3)])
def test_images_are_convolved(shape: tuple[int, ...]) -> None:
    features = features_of(box("env/env_obs", *shape, dtype="uint8"))
    assert features.n_features == 32 * 8 * 8
    assert len(list(features.parameters())) == 4
    assert features([torch.zeros(B, *shape, dtype=torch.uint8)]).shape == (B, features.n_features)


def test_frames_of_floats_are_no_images() -> None:
    assert features_of(box("env/env_obs", 4, 12, 12)).n_features == 4 * 12 * 12


def test_leaves_stand_side_by_side_in_the_order_of_the_space() -> None:
    leaves = (box("env/env_obs/speed", 2), LeafSpec("env/env_obs/gear", "discrete", (), "int64", counts=np.array(3)))
    features = features_of(*leaves)
    assert features.names == ("env/env_obs/speed", "env/env_obs/gear")
    assert not features.is_one_vector
    found = features([torch.tensor([[0.5, -0.5]] * B), torch.tensor([0, 1, 2])])
    assert found.tolist() == [[0.5, -0.5, 1, 0, 0], [0.5, -0.5, 0, 1, 0], [0.5, -0.5, 0, 0, 1]]
    with pytest.raises(ValueError, match="shorter"):
        features([torch.zeros(B, 2)])


def test_a_prefix_leads_to_other_variables() -> None:
    features = features_of(VECTOR, prefix="normalized/")
    assert features.names == ("normalized/env/env_obs",)
    workspace = Workspace()
    for t in range(2):
        workspace.set("normalized/env/env_obs", t, torch.full((B, 4), float(t)))
    assert features.read(workspace)[0][:, 0, 0].tolist() == [0.0, 1.0]


def test_an_observation_without_components_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no features"):
        features_of(box("env/env_obs", 0))
