"""The linear recurrent unit: its equations, the response to an impulse, and the ring of its eigenvalues."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.lru import LRU


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def cell(n_modes: int = 4, **options: Any) -> LRU:
    return LRU(3, 5, n_modes, generator=torch.Generator().manual_seed(0), **options)


def test_a_step_is_that_of_the_equations_in_complex_numbers() -> None:
    net, x = cell().double(), numbers(2, 3).double()
    state = numbers(2, 8).double()
    nu, theta, log_gamma = net.rates
    eigenvalues = torch.exp(-torch.exp(nu) + 1j * torch.exp(theta))
    entry = net.weight[::2] + 1j * net.weight[1::2]
    hidden = eigenvalues * (state[:, ::2] + 1j * state[:, 1::2]) + torch.exp(log_gamma) * ((x + 0j) @ entry.T)
    readout = net.readout
    exit_weight = readout.memory_weight[:, ::2] - 1j * readout.memory_weight[:, 1::2]
    before = (hidden @ exit_weight.T).real + x @ readout.input_weight.T + readout.bias
    output, following = net.step(x, state)
    torch.testing.assert_close(following, torch.stack((hidden.real, hidden.imag), dim=2).flatten(1))
    value, gate = ((before * before.sigmoid()) @ readout.output_weight.T + readout.output_bias).chunk(2, dim=1)
    torch.testing.assert_close(output, value * gate.sigmoid())


def test_an_impulse_dies_away_and_turns_with_the_powers_of_the_eigenvalues() -> None:
    net = cell(2).double()
    radius, phase = torch.tensor([0.9, 0.5]).double(), torch.tensor([0.1, 2.0]).double()
    with torch.no_grad():
        net.rates[0], net.rates[1], net.rates[2] = torch.log(-torch.log(radius)), torch.log(phase), 0.0
        net.weight.zero_()
        net.weight[::2, 0] = 1.0
        impulse = torch.zeros(100, 1, 3).double()
        impulse[0, 0, 0] = 1.0
        _, states = net.unroll(impulse, net.initial_state(1), torch.zeros(100, 1, dtype=torch.bool))
    times = torch.arange(100).double()[:, None]
    torch.testing.assert_close(torch.hypot(states[:, 0, ::2], states[:, 0, 1::2]), radius**times)
    torch.testing.assert_close(states[:, 0, ::2], radius**times * torch.cos(phase * times))


def test_eigenvalues_begin_in_the_ring_and_gamma_normalises() -> None:
    net = cell(4000, r_min=0.6, r_max=0.9, max_phase=1.0)
    eigenvalues = net.eigenvalues()
    radius, phase = eigenvalues.abs(), eigenvalues.angle()
    assert 0.6 < radius.min() < 0.605
    assert 0.895 < radius.max() < 0.9001
    assert 0 < phase.min() < 0.005
    assert 0.995 < phase.max() < 1.0001
    # Uniform over the area of the ring, hence in the squared radius.
    torch.testing.assert_close(radius.square().mean(), torch.tensor((0.36 + 0.81) / 2), atol=5e-3, rtol=0)
    torch.testing.assert_close(net.rates[2].exp().square(), 1 - radius.square(), atol=1e-5, rtol=0)


def test_the_variance_of_the_state_is_that_of_white_inputs() -> None:
    net = LRU(8, 4, 400, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, states = net.unroll(numbers(1000, 8, 8), net.initial_state(8), torch.zeros(1000, 8, dtype=torch.bool))
    modes = states[500:, :, ::2].square() + states[500:, :, 1::2].square()
    torch.testing.assert_close(modes.mean(), torch.tensor(1.0), atol=0.1, rtol=0)


def test_no_learned_number_makes_it_unstable() -> None:
    net = cell()
    with torch.no_grad():
        for rates in (-50.0, 0.0, 50.0):
            net.rates[:2] = rates
            assert net.eigenvalues().abs().max() <= 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r_min": 0.9, "r_max": 0.5}, "r_min=0.9: must be below r_max=0.5"),
        ({"r_max": 1.0}, "r_max=1.0: must be at least 0, below 1"),
        ({"max_phase": 0.0}, "max_phase=0.0: must be above 0, at most 2 π (6.283…)"),
        ({"max_phase": 7.0}, "max_phase=7.0: must be above 0, at most 2 π (6.283…)"),
    ],
)
def test_a_ring_that_is_none_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        cell(**options)
    assert str(refusal.value) == message


def test_a_number_of_modes_below_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^n_modes=0: must be at least 1$"):
        LRU(3, 5, 0)
