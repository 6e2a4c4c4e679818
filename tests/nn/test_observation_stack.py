"""The stack of the last inputs: exactly these, zeros before an episode, and a layer on them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.observation_stack import ObservationStack


def rows_of(n_steps: int) -> Tensor:
    """Two sequences of two recognisable numbers: 100 t + 10 b + d."""
    times, sequences, numbers = torch.meshgrid(torch.arange(n_steps), torch.arange(2), torch.arange(2), indexing="ij")
    return (100 * times + 10 * sequences + numbers).float()


def test_the_stack_shows_the_last_inputs_of_the_episode_and_zeros_before_it() -> None:
    cell = ObservationStack(2, None, length=3)
    x, starts = rows_of(5), torch.zeros(5, 2, dtype=torch.bool)
    starts[0], starts[3, 1] = True, True
    outputs, states = cell.unroll(x, torch.full((2, 4), 7.0), starts)
    assert outputs[:, 0].tolist() == [
        [0, 0, 0, 0, 0, 1],
        [0, 0, 0, 1, 100, 101],
        [0, 1, 100, 101, 200, 201],
        [100, 101, 200, 201, 300, 301],
        [200, 201, 300, 301, 400, 401],
    ]
    assert outputs[2:, 1].tolist() == [[10, 11, 110, 111, 210, 211], [0, 0, 0, 0, 310, 311], [0, 0, 310, 311, 410, 411]]
    assert torch.equal(states, outputs[..., 2:])


def test_the_state_is_the_past_where_no_episode_starts() -> None:
    cell = ObservationStack(2, None, length=3)
    state = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    outputs, _ = cell.unroll(rows_of(2), state, torch.zeros(2, 2, dtype=torch.bool))
    assert outputs[0].tolist() == [[1, 2, 3, 4, 0, 1], [5, 6, 7, 8, 10, 11]]
    assert outputs[1].tolist() == [[3, 4, 0, 1, 100, 101], [7, 8, 10, 11, 110, 111]]


def test_the_layer_is_a_perceptrons() -> None:
    cell = ObservationStack(2, 5, length=3, generator=torch.Generator().manual_seed(0))
    assert (cell.n_hidden, cell.state_size) == (5, 4)
    x, state = rows_of(1)[0] / 10, torch.ones(2, 4)
    assert cell.weight is not None
    assert cell.bias is not None
    expected = torch.tanh(torch.cat((state, x), dim=1) @ cell.weight.T + cell.bias)
    torch.testing.assert_close(cell.step(x, state)[0], expected)
    torch.testing.assert_close(cell.weight @ cell.weight.T, 2 * torch.eye(5))


@pytest.mark.parametrize("length", [1, 2.5])
def test_a_stack_without_a_past_is_refused(length: float) -> None:
    what = "must be at least 2" if length == 1 else "must be a whole number, at least 2"
    with pytest.raises(ConfigurationError, match=f"^length={length}: {what}$"):
        ObservationStack(2, length=length)  # type: ignore[arg-type]
