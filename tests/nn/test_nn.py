"""Networks: shapes, initial weights, and modules and arrays that agree."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules import module

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.features import Flat, OneHot
from bbrl_exp.nn.heads import CategoricalHead, GaussianHead
from bbrl_exp.nn.mlp import ACTIVATIONS, ArrayMlp, Mlp


@pytest.mark.parametrize("layer_norm", [False, True])
def test_hooks_of_the_parts_of_an_mlp_are_called(layer_norm: bool) -> None:
    mlp, called = Mlp([3, 5, 2], layer_norm=layer_norm), []
    parts = [module for module in mlp.modules() if not list(module.children())]
    for part in parts:
        part.register_forward_hook(lambda module, *_: called.append(module))
    mlp(torch.randn(7, 3))
    assert sorted(map(id, called)) == sorted(map(id, parts))


@pytest.mark.parametrize(
    "register",
    [
        module.register_module_forward_hook,
        module.register_module_forward_pre_hook,
        module.register_module_full_backward_hook,
        module.register_module_full_backward_pre_hook,
    ],
)
def test_hooks_of_all_modules_are_called_for_the_parts_of_an_mlp(register: Any) -> None:
    mlp, called = Mlp([3, 5, 2]), set()
    handle = register(lambda module, *_: called.add(module))
    try:
        mlp(torch.randn(7, 3, requires_grad=True)).sum().backward()
    finally:
        handle.remove()
    assert {part for part in mlp.modules() if not list(part.children())} <= called


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_an_mlp_is_the_composition_of_its_layers(activation: str) -> None:
    mlp = Mlp([3, 5, 4, 2], activation)
    inputs = torch.randn(7, 3)
    expected = inputs
    for layer in list(mlp.layers)[:-1]:
        expected = getattr(torch, activation, getattr(torch.nn.functional, activation))(layer(expected))
    expected = mlp.layers[-1](expected)
    torch.testing.assert_close(mlp(inputs), expected)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("batch_size", [1, 7, 300])
def test_an_mlp_on_arrays_is_the_same_function(activation: str, batch_size: int) -> None:
    mlp = Mlp([3, 70, 80, 2], activation)
    inputs = torch.randn(batch_size, 3)
    outputs = ArrayMlp(mlp)(inputs.numpy())
    assert outputs.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(outputs), mlp(inputs).detach(), atol=1e-5, rtol=1e-5)


def test_an_mlp_on_arrays_leaves_its_inputs_and_gives_memory_of_its_own() -> None:
    on_arrays = ArrayMlp(Mlp([2, 4, 1]))
    inputs = np.ones((3, 2), np.float32)
    first = on_arrays(inputs)
    kept = first.copy()
    on_arrays(inputs * 5)
    assert np.array_equal(inputs, np.ones((3, 2)))
    assert np.array_equal(first, kept)


def test_an_mlp_on_arrays_sees_every_change_of_the_parameters() -> None:
    mlp = Mlp([2, 4, 1])
    on_arrays = ArrayMlp(mlp)
    inputs = torch.ones(3, 2)
    on_arrays(inputs.numpy())

    def in_place() -> None:
        mlp.layers[0].weight.data.add_(1)

    def replaced() -> None:
        vector = torch.nn.utils.parameters_to_vector(mlp.parameters())
        torch.nn.utils.vector_to_parameters(vector.detach() * 0.5, mlp.parameters())

    def loaded() -> None:
        mlp.load_state_dict(Mlp([2, 4, 1]).state_dict())

    for change in (in_place, replaced, loaded):
        change()
        torch.testing.assert_close(torch.from_numpy(on_arrays(inputs.numpy())), mlp(inputs).detach())


def test_a_copied_mlp_on_arrays_computes_with_the_copied_parameters() -> None:
    mlp = Mlp([2, 4, 1])
    on_arrays = ArrayMlp(mlp)
    inputs = np.ones((3, 2), np.float32)
    expected = on_arrays(inputs).copy()
    copied_mlp, copied = copy.deepcopy((mlp, on_arrays))
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.zero_()
    assert np.array_equal(copied(inputs), expected)
    with torch.no_grad():
        for parameter in copied_mlp.parameters():
            parameter.zero_()
    assert not copied(inputs).any()


def test_an_activation_that_numpy_lacks_is_refused_on_arrays() -> None:
    assert not ArrayMlp.supports(Mlp([2, 2, 1], "gelu"))
    with pytest.raises(ConfigurationError, match="GELU cannot be computed on arrays"):
        ArrayMlp(Mlp([2, 2, 1], "gelu"))


def test_initial_weights_are_orthogonal_with_the_stated_gains() -> None:
    mlp = Mlp([4, 8, 6, 2], output_gain=0.01)
    for layer, gain in zip(mlp.layers, [math.sqrt(2), math.sqrt(2), 0.01], strict=True):
        weight = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
        torch.testing.assert_close(weight @ weight.T, gain**2 * torch.eye(len(weight)), atol=1e-5, rtol=1e-4)
        assert not layer.bias.any()


def test_initial_weights_come_from_the_generator_alone() -> None:
    first = Mlp([2, 3, 1], generator=torch.Generator().manual_seed(1))
    torch.rand(1)
    second = Mlp([2, 3, 1], generator=torch.Generator().manual_seed(1))
    assert torch.equal(first.layers[0].weight, second.layers[0].weight)


def test_a_bad_mlp_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"activation='tahn': one of .*; did you mean 'tanh'\?"):
        Mlp([2, 1], "tahn")
    with pytest.raises(ConfigurationError, match=r"sizes=\[2, 0, 1\]"):
        Mlp([2, 0, 1])


def test_discrete_components_become_one_hot_vectors() -> None:
    features = OneHot([3, 2], [5, 0])(torch.tensor([[5, 1], [7, 0]]))
    assert features.tolist() == [[1, 0, 0, 0, 1], [0, 0, 1, 1, 0]]
    assert OneHot([3], [0])(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_other_observations_become_one_scaled_vector() -> None:
    image = torch.full((2, 3, 4), 51, dtype=torch.uint8)
    torch.testing.assert_close(Flat(12, 1 / 255)(image), torch.full((2, 12), 0.2))


def test_categorical_actions_have_the_probabilities_of_the_softmax() -> None:
    head = CategoricalHead([3], [0], (), torch.int64)
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).expand(200_000, 3)
    noise = torch.from_numpy(head.draw(np.random.default_rng(0), (200_000, 3)))
    frequencies = torch.bincount(head(logits, noise), minlength=3) / 200_000
    # Three standard deviations of a frequency of 0.5 over 200,000 draws are 0.0034.
    torch.testing.assert_close(frequencies, torch.tensor([0.5, 0.3, 0.2]), atol=0.0034, rtol=0)


def test_several_categorical_components_begin_at_their_starts() -> None:
    head = CategoricalHead([2, 3], [10, -1], (2,), torch.int32)
    logits = torch.tensor([[0.0, 9.0, 9.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0, 9.0]])
    actions = head(logits, torch.zeros_like(logits))
    assert actions.tolist() == [[11, -1], [10, 1]]
    assert actions.dtype == torch.int32
    assert head.on_arrays(logits.numpy(), np.zeros((2, 5))).tolist() == [[11, -1], [10, 1]]


def test_gaussian_actions_are_mean_plus_scaled_noise() -> None:
    head = GaussianHead((2, 1), torch.float64, initial_log_std=math.log(0.5))
    actions = head(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, -2.0]]))
    torch.testing.assert_close(actions, torch.tensor([[[2.0], [1.0]]], dtype=torch.float64))
    on_arrays = head.on_arrays(np.array([[1.0, 2.0]], np.float32), np.array([[2.0, -2.0]], np.float32))
    assert on_arrays.tolist() == [[[2.0], [1.0]]]


def test_a_whole_number_is_a_deviation_too() -> None:
    assert GaussianHead((2,), torch.float32, initial_log_std=-2).log_std.tolist() == [-2.0, -2.0]
