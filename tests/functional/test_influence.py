"""The gradients of a memory's outputs with respect to its inputs, against what is known of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from bbrl_exp.functional import influence as module
from bbrl_exp.functional.influence import Influence, influence, memory_length
from bbrl_exp.functional.saturation import saturated_fraction
from bbrl_exp.nn.cell import Cell
from bbrl_exp.nn.gated_transformer import GTrXL
from bbrl_exp.nn.lru import LRU
from bbrl_exp.nn.min_gru import MinGRU
from bbrl_exp.nn.observation_stack import ObservationStack
from bbrl_exp.nn.recurrent import GRU, LSTM

N_STEPS = 12


def decaying(rate: float) -> Callable[[Tensor], Tensor]:
    """s' = rate · s + x, whose output is twice the state: ∂o_t/∂x_s = 2 rate^(t − s)."""

    def outputs_of(inputs: Tensor) -> Tensor:
        state, outputs = torch.zeros_like(inputs[0]), []
        for row in inputs:
            state = rate * state + row
            outputs.append(2 * state)
        return torch.stack(outputs)

    return outputs_of


def nonlinear(inputs: Tensor) -> Tensor:
    """A tanh network of two units over inputs of three numbers."""
    generator = torch.Generator().manual_seed(1)
    to_state, back = (torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in (3, 2))
    state, outputs = inputs.new_zeros(inputs.shape[1], 2), []
    for row in inputs:
        state = (row @ to_state + state @ back).tanh()
        outputs.append(state)
    return torch.stack(outputs)


def test_the_gradient_of_a_memory_that_decays_by_a_rate_is_the_rate_to_the_power_of_the_lag() -> None:
    inputs = torch.randn(N_STEPS, 1, dtype=torch.float64)
    found = influence(decaying(0.8), inputs, range(N_STEPS))
    expected = [[2 * 0.8 ** (t - s) if s <= t else 0.0 for s in range(N_STEPS)] for t in range(N_STEPS)]
    np.testing.assert_allclose(found.norms, expected, rtol=1e-12)
    np.testing.assert_allclose(found.by_lag, 2 * 0.8 ** np.arange(N_STEPS), rtol=1e-12)
    np.testing.assert_allclose(found.of_last, found.by_lag, rtol=1e-12)
    # (1 − 0.8^(lag + 1)) / (1 − 0.8^12) reaches 0.9 at lag 8, where it is 0.93; at lag 7 it is 0.893.
    assert memory_length(found.by_lag) == 8


def test_norms_are_those_of_the_jacobian_of_the_whole_sequence() -> None:
    inputs = torch.randn(N_STEPS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    jacobian = torch.autograd.functional.jacobian(lambda rows: nonlinear(rows.unsqueeze(1))[:, 0], inputs)
    expected = jacobian.square().sum(dim=(1, 3)).sqrt().numpy()
    np.testing.assert_allclose(influence(nonlinear, inputs, range(N_STEPS)).norms, expected, rtol=1e-12)


def test_some_outputs_in_several_passes_give_what_all_give_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(N_STEPS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    whole = influence(nonlinear, inputs, range(N_STEPS))
    monkeypatch.setattr(module, "_MOST_ROWS", 2 * N_STEPS)
    times = [0, 4, 5, 9, 11]
    np.testing.assert_allclose(influence(nonlinear, inputs, times).norms, whole.norms[times], rtol=1e-12)


def test_the_mean_for_a_lag_is_over_the_outputs_that_reach_so_far_back() -> None:
    norms = np.array([[3.0, 0.0, 0.0, 0.0], [1.0, 5.0, 7.0, 0.0]])
    found = Influence((0, 2), norms)
    assert found.by_lag.tolist() == [(3 + 7) / 2, 5.0, 1.0]
    assert found.of_last.tolist() == [7.0, 5.0, 1.0]


@pytest.mark.parametrize(
    ("by_lag", "length"),
    [([9.0, 1.0], 0), ([8.0, 1.0, 1.0], 1), ([1.0, 0.0, 1.0], 2), ([0.0, 0.0, 5.0], 2), ([0.0, 0.0], None)],
)
def test_the_memory_length_is_the_lag_within_which_90_percent_lie(by_lag: list[float], length: int | None) -> None:
    assert memory_length(np.array(by_lag)) == length


def test_outputs_that_depend_on_nothing_have_no_memory() -> None:
    found = influence(torch.zeros_like, torch.randn(4, 2), range(4))
    assert not found.norms.any()
    assert memory_length(found.by_lag) is None


def test_a_unit_is_saturated_within_one_percent_of_a_bound() -> None:
    units = torch.tensor([[-1.0, -0.991, -0.989, 0.0], [0.5, 0.98, 0.99, 1.0]])
    assert float(saturated_fraction(units)) == 4 / 8


@pytest.mark.parametrize("make", [GRU, LSTM, MinGRU, LRU, ObservationStack, GTrXL])
def test_of_every_cell_the_gradients_through_a_sequence_are_those_through_its_steps(make: Callable[..., Cell]) -> None:
    cell = make(n_inputs=3)
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))

    def together(copies: Tensor) -> Tensor:
        starts = torch.zeros(copies.shape[:2], dtype=torch.bool)
        return cell.outputs(copies, cell.initial_state(copies.shape[1]), starts)[..., :2]

    def stepped(rows: Tensor) -> Tensor:
        state, outputs = cell.initial_state(1), []
        for row in rows.unsqueeze(1):
            output, state = cell.step(row, state)
            outputs.append(output[0, :2])
        return torch.stack(outputs)

    expected = torch.autograd.functional.jacobian(stepped, inputs).square().sum(dim=(1, 3)).sqrt().numpy()
    np.testing.assert_allclose(influence(together, inputs, range(6)).norms, expected, rtol=1e-4, atol=1e-6)
