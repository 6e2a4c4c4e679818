"""Ensembles of networks: the members are independent, and each computes what its definition says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.batch_renormalization import BatchRenormalization
from bbrl_exp.nn.ensemble import EnsembleMlp


def inputs(n_samples: int = 5, n_inputs: int = 3) -> torch.Tensor:
    return torch.randn(n_samples, n_inputs, generator=torch.Generator().manual_seed(1))


def test_each_member_is_the_network_of_its_own_weights() -> None:
    ensemble = EnsembleMlp(2, [3, 4, 4, 2], "tanh", generator=torch.Generator().manual_seed(0))
    for bias in ensemble.biases:
        nn.init.normal_(bias, generator=torch.Generator().manual_seed(2))
    outputs = ensemble(inputs())
    assert outputs.shape == (2, 5, 2)
    for member in range(2):
        hidden = inputs()
        for index, (weight, bias) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
            hidden = hidden @ weight[member] + bias[member]
            hidden = hidden.tanh() if index < 2 else hidden
        torch.testing.assert_close(outputs[member], hidden)


def test_members_differ_at_first_and_the_generator_decides_how() -> None:
    def make(seed: int) -> EnsembleMlp:
        return EnsembleMlp(2, [3, 4, 1], generator=torch.Generator().manual_seed(seed))

    assert torch.equal(make(0)(inputs()), make(0)(inputs()))
    assert not torch.equal(make(0)(inputs()), make(1)(inputs()))
    first, second = make(0)(inputs())
    assert not torch.equal(first, second)


def test_initial_weights_are_orthogonal_and_biases_zero() -> None:
    ensemble = EnsembleMlp(2, [4, 4, 1])
    for weight in ensemble.weights[0]:
        torch.testing.assert_close(weight @ weight.T, 2.0 * torch.eye(4))
    assert all(not bias.any() for bias in ensemble.biases)


def test_the_gradient_of_one_member_does_not_touch_the_other() -> None:
    ensemble = EnsembleMlp(2, [3, 4, 1])
    ensemble(inputs())[0].sum().backward()
    for parameter in ensemble.parameters():
        assert parameter.grad is not None
        assert not parameter.grad[1].any()
    assert ensemble.weights[0].grad[0].any()


def test_layer_normalisation_makes_outputs_blind_to_the_scale_of_a_layer() -> None:
    ensemble = EnsembleMlp(2, [3, 8, 1], normalization="layer")
    before = ensemble(inputs())
    with torch.no_grad():
        ensemble.weights[0].mul_(100.0)
    torch.testing.assert_close(ensemble(inputs()), before, rtol=1e-3, atol=1e-3)


def test_dropout_needs_a_generator_and_leaves_the_mean_as_it_is() -> None:
    ensemble = EnsembleMlp(1, [3, 2000, 1], dropout=0.25)
    with torch.no_grad():
        ensemble.weights[0].fill_(1.0)
        ensemble.weights[1].fill_(1.0 / 2000)
        ones = torch.ones(200, 3)
        torch.testing.assert_close(ensemble(ones), torch.full((1, 200, 1), 3.0))
        dropped = ensemble(ones, torch.Generator().manual_seed(0))
        again = ensemble(ones, torch.Generator().manual_seed(0))
    assert torch.equal(dropped, again)
    assert dropped.std() > 0
    deviation = 3.0 * math.sqrt(0.25 / 0.75 / (2000 * 200))
    assert abs(dropped.mean().item() - 3.0) < 5 * deviation


def test_batch_renormalisation_begins_as_batch_normalisation() -> None:
    layer = BatchRenormalization(1, 3, rate=1.0)
    outputs = layer(10.0 + 5.0 * inputs(50)[None])
    torch.testing.assert_close(outputs.mean(dim=1), torch.zeros(1, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs.var(dim=1, correction=0), torch.ones(1, 3), atol=1e-3, rtol=0)


def test_batch_renormalisation_in_use_and_after_the_warm_up_says_the_same() -> None:
    layer = BatchRenormalization(1, 3, rate=0.01, n_warm_up=1)
    batch = inputs(50)[None]
    for _ in range(1000):
        layer(batch + 1.0)
    other = batch[:, :20] * 1.5 + 1.2
    learned = layer(other)
    layer.eval()
    torch.testing.assert_close(learned, layer(other), atol=0.05, rtol=0.02)


def test_batch_statistics_are_those_of_each_member() -> None:
    layer = BatchRenormalization(2, 1, rate=1.0)
    layer(torch.tensor([[[1.0], [3.0]], [[10.0], [30.0]]]))
    torch.testing.assert_close(layer.running_mean.flatten(), torch.tensor([2.0, 20.0]))
    torch.testing.assert_close(layer.running_variance.flatten(), torch.tensor([1.0, 100.0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "rellu"}, "did you mean 'relu'"),
        ({"normalization": "layers"}, "did you mean 'layer'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"n_members": 0}, "n_members=0: must be at least 1"),
        ({"sizes": [3, 0, 1]}, "none below 1"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EnsembleMlp(**{"n_members": 2, "sizes": [3, 4, 1], **arguments})  # type: ignore[arg-type]
