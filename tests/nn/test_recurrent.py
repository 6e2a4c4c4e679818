"""Recurrent networks: the equations, sequences against steps, gradients against autograd, episodes apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.recurrent import GRU, LSTM

N_STEPS, BATCH, N_INPUTS, N_HIDDEN = 6, 3, 2, 4
KINDS = [GRU, LSTM]
Kind = type[GRU | LSTM]


def network(kind: Kind) -> GRU | LSTM:
    net = kind(N_INPUTS, N_HIDDEN, torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.bias += 0.1 * torch.arange(len(net.bias))
    return net


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs_of(net: GRU | LSTM) -> tuple[Tensor, Tensor, Tensor]:
    """Features, a state that is not zero, and episodes that start in the middle, in different environments."""
    starts = torch.zeros(N_STEPS, BATCH, dtype=torch.bool)
    starts[2, 1] = starts[4, 0] = starts[4, 1] = True
    return numbers(N_STEPS, BATCH, N_INPUTS), numbers(BATCH, net.state_size, seed=2), starts


def stepped(net: GRU | LSTM, features: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    outputs, states = [], []
    for t in range(len(features)):
        state = torch.where(starts[t, :, None], 0.0, state)
        output, state = net.step(features[t], state)
        outputs.append(output)
        states.append(state)
    return torch.stack(outputs), torch.stack(states)


def test_a_gru_is_torchs_without_the_hidden_bias() -> None:
    net = network(GRU)
    theirs = torch.nn.GRU(N_INPUTS, N_HIDDEN)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(net.input_weight)
        theirs.weight_hh_l0.copy_(net.hidden_weight)
        theirs.bias_ih_l0.copy_(net.bias)
        theirs.bias_hh_l0.zero_()
    features, state, starts = inputs_of(net)
    outputs, states = net.unroll(features, state, torch.zeros_like(starts))
    expected, expected_last = theirs(features, state[None])
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(states[-1], expected_last[0])


def test_an_lstm_is_torchs_with_the_gates_in_another_order() -> None:
    net = network(LSTM)
    theirs = torch.nn.LSTM(N_INPUTS, N_HIDDEN)

    def reordered(values: Tensor) -> Tensor:
        entry, forget, output, candidate = values.chunk(4)
        return torch.cat((entry, forget, candidate, output))

    with torch.no_grad():
        theirs.weight_ih_l0.copy_(reordered(net.input_weight))
        theirs.weight_hh_l0.copy_(reordered(net.hidden_weight))
        theirs.bias_ih_l0.copy_(reordered(net.bias))
        theirs.bias_hh_l0.zero_()
    features, state, starts = inputs_of(net)
    outputs, states = net.unroll(features, state, torch.zeros_like(starts))
    hidden, cell = state[None, :, :N_HIDDEN].contiguous(), state[None, :, N_HIDDEN:].contiguous()
    expected, (expected_hidden, expected_cell) = theirs(features, (hidden, cell))
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(states[-1], torch.cat((expected_hidden[0], expected_cell[0]), dim=1))


@pytest.mark.parametrize("kind", KINDS)
def test_unrolled_equals_stepped_values_and_gradients(kind: Kind) -> None:
    net = network(kind)
    features, state, starts = inputs_of(net)
    weights = numbers(N_STEPS, BATCH, N_HIDDEN, seed=3)
    state_weights = numbers(N_STEPS, BATCH, net.state_size, seed=4)
    results = []
    for run in (net.unroll, lambda *sequence: stepped(net, *sequence)):
        net.zero_grad()
        leaves = [features.clone().requires_grad_(), state.clone().requires_grad_()]
        outputs, states = run(*leaves, starts)
        ((outputs * weights).sum() + (states * state_weights).sum()).backward()
        results.append([outputs, states, *(leaf.grad for leaf in (*leaves, *net.parameters()))])
    for unrolled, expected in zip(*results, strict=True):
        torch.testing.assert_close(unrolled, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_in_double_precision_unrolled_equals_stepped(kind: Kind) -> None:
    net = network(kind).double()
    features, state, starts = inputs_of(net)
    unrolled = net.unroll(features.double(), state.double(), starts)
    expected = stepped(net, features.double(), state.double(), starts)
    torch.testing.assert_close(unrolled, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_step_as_the_module_does_and_see_changed_parameters(kind: Kind) -> None:
    net = network(kind)
    arrays = net.on_arrays()
    features, state, _ = inputs_of(net)
    for _ in range(2):
        output, following = arrays(features[0].numpy(), state.numpy())
        expected = net.step(features[0], state)
        torch.testing.assert_close(torch.from_numpy(output), expected[0].detach(), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(torch.from_numpy(following), expected[1].detach(), atol=1e-6, rtol=1e-5)
        with torch.no_grad():
            net.hidden_weight += 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_and_no_value_crosses_the_start_of_an_episode(kind: Kind) -> None:
    net = network(kind)
    features, state, starts = inputs_of(net)
    features.requires_grad_()
    state.requires_grad_()
    outputs, _ = net.unroll(features, state, starts)
    outputs[4, 1].sum().backward()
    assert features.grad is not None
    assert state.grad is not None
    assert features.grad[:4].abs().max() == 0
    assert features.grad[4, 1].abs().max() > 0
    assert state.grad.abs().max() == 0
    alone, _ = net.unroll(features[4:, 1:2], torch.zeros(1, net.state_size), torch.zeros(2, 1, dtype=torch.bool))
    torch.testing.assert_close(outputs[4:, 1:2], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_not_a_number_ends_with_its_episode_and_stays_in_its_sequence(kind: Kind, dtype: torch.dtype) -> None:
    net = network(kind).to(dtype)
    features, state, starts = (each.to(dtype) if each.is_floating_point() else each for each in inputs_of(net))
    features[1, 1] = torch.nan
    for found in net.unroll(features, state, starts):
        assert found[1, 1].isnan().all()
        assert found[2:].isfinite().all()
        assert found[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_together_equal_each_alone(kind: Kind) -> None:
    net = network(kind)
    features, state, starts = inputs_of(net)
    together, states = net.unroll(features, state, starts)
    for b in range(BATCH):
        one = slice(b, b + 1)
        alone, states_alone = net.unroll(features[:, one], state[one], starts[:, one])
        torch.testing.assert_close(together[:, one], alone)
        torch.testing.assert_close(states[:, one], states_alone)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_cut_in_two_goes_on_with_its_state(kind: Kind) -> None:
    net = network(kind)
    features, state, starts = inputs_of(net)
    whole, states = net.unroll(features, state, starts)
    first, middle = net.unroll(features[:3], state, starts[:3])
    second, end = net.unroll(features[3:], middle[-1], starts[3:])
    torch.testing.assert_close(whole, torch.cat((first, second)))
    torch.testing.assert_close(states, torch.cat((middle, end)))


def test_a_forget_gate_is_open_at_first_and_each_gate_orthogonal() -> None:
    net = LSTM(N_INPUTS, N_HIDDEN)
    assert net.bias.tolist() == [0.0] * N_HIDDEN + [1.0] * N_HIDDEN + [0.0] * 2 * N_HIDDEN
    for gate in net.hidden_weight.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(N_HIDDEN), atol=1e-5, rtol=0)


def test_products_too_large_for_numpy_are_the_same() -> None:
    net = GRU(3, 128, torch.Generator().manual_seed(0))
    features, state = numbers(2, 8, 3), numbers(8, 128, seed=2)
    no_start = torch.zeros(2, 8, dtype=torch.bool)
    torch.testing.assert_close(net.unroll(features, state, no_start), stepped(net, features, state, no_start))


def test_an_empty_layer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="n_hidden=0: must be at least 1"):
        GRU(2, 0)
