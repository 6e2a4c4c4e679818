"""minGRU: its equations, what open and closed gates do, and the times it begins with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.min_gru import MinGRU

NO_START = torch.zeros(12, 2, dtype=torch.bool)


def cell(longest: float = 32.0) -> MinGRU:
    return MinGRU(3, 5, longest, generator=torch.Generator().manual_seed(0))


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_a_step_is_that_of_the_equations() -> None:
    net, x, state = cell(), numbers(2, 3), numbers(2, 5)
    update = torch.sigmoid(x @ net.weight[:5].T + net.bias[:5])
    expected = (1 - update) * state + update * (x @ net.weight[5:].T + net.bias[5:])
    readout = net.readout
    before = expected @ readout.memory_weight.T + x @ readout.input_weight.T + readout.bias
    output, following = net.step(x, state)
    torch.testing.assert_close(following, expected)
    value, gate = ((before * before.sigmoid()) @ readout.output_weight.T + readout.output_bias).chunk(2, dim=1)
    torch.testing.assert_close(output, value * gate.sigmoid())


@pytest.mark.parametrize(("bias", "keeps"), [(1e3, 0.0), (-1e3, 1.0)])
def test_an_open_gate_copies_the_candidate_and_a_closed_one_keeps_the_state(bias: float, keeps: float) -> None:
    net, x, state = cell(), numbers(12, 2, 3), numbers(2, 5)
    with torch.no_grad():
        net.weight[:5], net.bias[:5] = 0.0, bias
        _, states = net.unroll(x, state, NO_START)
        candidates = x @ net.weight[5:].T + net.bias[5:]
    torch.testing.assert_close(states, keeps * state.expand(12, 2, 5) + (1 - keeps) * candidates)


def test_a_constant_gate_forgets_geometrically() -> None:
    net, state = cell(), numbers(2, 5)
    with torch.no_grad():
        net.weight.zero_()
        net.bias[:5] = torch.tensor(0.25).logit()
        _, states = net.unroll(torch.zeros(12, 2, 3), state, NO_START)
    torch.testing.assert_close(states, 0.75 ** torch.arange(1, 13)[:, None, None] * state)


def test_the_initial_times_are_spread_up_to_the_longest() -> None:
    net = MinGRU(3, 1000, longest=100.0, generator=torch.Generator().manual_seed(0))
    keeps = 1 - net.bias[:1000].sigmoid()
    times = keeps / (1 - keeps)
    assert 1 <= times.min() < 1.1
    assert 90 < times.max() <= 100.1
    torch.testing.assert_close(times.log().mean(), torch.tensor(100.0).log() / 2, atol=0.1, rtol=0)


def test_a_time_below_one_step_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^longest=0.5: must be at least 1$"):
        cell(0.5)
