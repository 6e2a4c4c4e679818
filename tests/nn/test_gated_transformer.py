"""The gated transformer: its equations written out, how far it sees, what its state holds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.gated_transformer import Gate, GTrXL

WINDOW, SIZE, N_HEADS = 4, 6, 2


def cell(n_layers: int = 1, window: int = WINDOW) -> GTrXL:
    return GTrXL(3, SIZE, n_layers, N_HEADS, window, torch.Generator().manual_seed(0)).double()


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def unrolled(net: GTrXL, x: Tensor) -> tuple[Tensor, Tensor]:
    return net.unroll(x, net.initial_state(x.shape[1]), torch.zeros(x.shape[:2], dtype=torch.bool))


def normalized(row: Tensor) -> Tensor:
    return (row - row.mean()) / torch.sqrt(row.var(correction=0) + 1e-5)


def gated(gate: Gate, old: Tensor, new: Tensor) -> Tensor:
    of_reset, of_update, of_candidate = gate.new_weight.chunk(3)
    old_of_reset, old_of_update = gate.old_weight.chunk(2)
    reset = torch.sigmoid(of_reset @ new + old_of_reset @ old)
    update = torch.sigmoid(of_update @ new + old_of_update @ old - gate.bias)
    candidate = torch.tanh(of_candidate @ new + gate.candidate_weight @ (reset * old))
    return (1 - update) * old + update * candidate


def test_each_row_is_what_the_equations_make_of_the_rows_before_it() -> None:
    net = cell()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * numbers(*parameter.shape)
    x = numbers(7, 1, 3)
    outputs, _ = unrolled(net, x)
    (layer,) = net.layers
    embedded = [net.weight @ row[0] + net.bias for row in x]
    for t, old in enumerate(embedded):
        heads = []
        for number, head in enumerate(torch.arange(SIZE).chunk(N_HEADS)):
            query = (layer.query_weight @ normalized(old) + layer.query_bias)[head]
            seen = [(t - s, normalized(embedded[s])) for s in range(max(0, t - WINDOW), t + 1)]
            keys = [(layer.key_weight @ row)[head] + layer.positions[WINDOW - distance][head] for distance, row in seen]
            scores = torch.stack([query @ key for key in keys]) / len(head) ** 0.5
            biases = [layer.distance_bias[WINDOW - distance, number] for distance, _ in seen]
            weights = torch.softmax(scores + torch.stack(biases), dim=0)
            values = [(layer.value_weight @ row)[head] for _, row in seen]
            heads.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
        attended = layer.output_weight @ torch.cat(heads) + layer.output_bias
        row = gated(layer.attention_gate, old, attended.relu())
        hidden = (layer.first_weight @ normalized(row) + layer.first_bias).relu()
        row = gated(layer.perceptron_gate, row, (layer.second_weight @ hidden + layer.second_bias).relu())
        torch.testing.assert_close(outputs[t, 0], row)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_so_many_layers_see_as_many_windows_back_and_no_row_more(n_layers: int) -> None:
    net, window = cell(n_layers, window=2), 2
    x = numbers(9, 1, 3).requires_grad_()
    outputs, _ = unrolled(net, x)
    (gradient,) = torch.autograd.grad(outputs[8].sum(), x)
    furthest = 8 - n_layers * window
    assert (gradient[:furthest] == 0).all()
    assert (gradient[furthest:].abs().amax(dim=2) > 0).all()


def test_the_state_is_the_last_rows_and_how_many_of_them_count() -> None:
    net = cell()
    x, starts = numbers(6, 2, 3), torch.zeros(6, 2, dtype=torch.bool)
    starts[4, 1] = True
    _, states = net.unroll(x, net.initial_state(2), starts)
    assert states[:, 0, -1].tolist() == [1, 2, 3, 4, 4, 4]
    assert states[:, 1, -1].tolist() == [1, 2, 3, 4, 1, 2]
    rows = [normalized(net.weight @ row + net.bias) for row in x[:, 1]]
    torch.testing.assert_close(states[3, 1, :-1], torch.cat(rows[:4]))
    torch.testing.assert_close(states[5, 1, :-1], torch.cat((torch.zeros(2 * SIZE).double(), *rows[4:])))


def test_what_is_stored_beyond_the_episode_makes_no_difference() -> None:
    net, x = cell(2), numbers(1, 2, 3)
    state = numbers(2, net.state_size)
    state[:, -1] = torch.tensor([1, 3])
    other = state.clone()
    other[:, : WINDOW * 2 * SIZE - 3 * 2 * SIZE] += 1.0  # of the first, two more rows are out of sight
    torch.testing.assert_close(net.step(x[0], state)[0], net.step(x[0], other)[0])
    other[0, : 3 * 2 * SIZE] += 1.0
    torch.testing.assert_close(net.step(x[0], state)[0], net.step(x[0], other)[0])
    other[0, 3 * 2 * SIZE : 4 * 2 * SIZE] += torch.arange(2 * SIZE)
    assert not torch.allclose(net.step(x[0], state)[0], net.step(x[0], other)[0])


def test_at_first_a_gate_lets_most_of_the_old_pass() -> None:
    gate = Gate(SIZE, torch.Generator().manual_seed(0))
    zeros = torch.zeros(SIZE)
    old = torch.linspace(-0.01, 0.01, SIZE)
    share = torch.sigmoid(torch.tensor(2.0))
    with torch.no_grad():
        gate.candidate_weight.zero_()
    torch.testing.assert_close(gate(old, zeros), share * old, atol=1e-4, rtol=0)


def test_at_first_one_head_sees_the_whole_window_and_the_others_what_is_recent() -> None:
    (layer,) = GTrXL(3, 8, n_heads=4, window=2).layers
    assert layer.distance_bias.T.tolist() == [[0, 0, 0], [-2, -1, 0], [-0.5, -0.25, 0], [-0.125, -0.0625, 0]]


def test_heads_divide_the_size() -> None:
    with pytest.raises(ConfigurationError, match=r"^n_heads=4: must divide n_hidden=6$"):
        GTrXL(3, SIZE, n_heads=4)
