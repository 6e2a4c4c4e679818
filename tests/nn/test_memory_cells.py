"""What holds for every memory cell whose sequences are not unrolled step by step: that it makes no difference."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bbrl_exp.nn.gated_transformer import GTrXL
from bbrl_exp.nn.lru import LRU
from bbrl_exp.nn.min_gru import MinGRU
from bbrl_exp.nn.observation_stack import ObservationStack

N_STEPS, BATCH, N_INPUTS, N_HIDDEN = 9, 3, 2, 4
CELLS: dict[str, Callable[..., Any]] = {
    "min_gru": MinGRU,
    "lru": LRU,
    "lru of 3 modes": partial(LRU, n_modes=3),
    "gtrxl": partial(GTrXL, n_heads=2, window=3),
    "gtrxl of 2 layers": partial(GTrXL, n_layers=2, n_heads=1, window=2),
    "gtrxl of a long window": partial(GTrXL, n_heads=4, window=40),
    "stack": ObservationStack,
    "stack of 2": partial(ObservationStack, length=2),
}


@pytest.fixture(autouse=True)
def _scan_even_a_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bbrl_exp.nn.scan.FEWEST_ROWS", 4)


each_cell = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(make: Callable[..., Any], n_hidden: int = N_HIDDEN) -> Any:
    return make(N_INPUTS, n_hidden, generator=torch.Generator().manual_seed(0))


def some_state(cell: Any, batch_size: int = BATCH) -> Tensor:
    """One that the cell may have after a few steps."""
    state = cell.initial_state(batch_size)
    for row in numbers(3, batch_size, N_INPUTS, seed=2).to(state.dtype):
        _, state = cell.step(row, state)
    return state.detach()  # type: ignore[no-any-return]


def some_starts(n_steps: int = N_STEPS, batch_size: int = BATCH) -> Tensor:
    """Episodes that start in the middle, in different environments, one of them at once."""
    starts = torch.rand(n_steps, batch_size, generator=torch.Generator().manual_seed(5)) < 0.2
    starts[0, 2], starts[:5, 0] = True, False
    return starts


def stepped(cell: Any, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    outputs, states = [], []
    for t in range(len(x)):
        output, state = cell.step(x[t], torch.where(starts[t, :, None], 0.0, state))
        outputs.append(output)
        states.append(state)
    return torch.stack(outputs), torch.stack(states)


@each_cell
def test_an_unrolled_sequence_and_its_gradients_are_those_of_its_steps(make: Callable[..., Any]) -> None:
    cell = built(make).double()
    x, state, starts = numbers(N_STEPS, BATCH, N_INPUTS).double(), some_state(cell), some_starts()
    weights = numbers(N_STEPS, BATCH, cell.n_hidden, seed=3).double()
    state_weights = numbers(N_STEPS, BATCH, cell.state_size, seed=4).double()
    results = []
    for run in (cell.unroll, partial(stepped, cell)):
        leaves = [x.clone().requires_grad_(), state.clone().requires_grad_(), *cell.parameters()]
        outputs, states = run(*leaves[:2], starts)
        loss = (outputs * weights).sum() + (states * state_weights).sum()
        results.append([outputs, states, *torch.autograd.grad(loss, leaves)])
    results[0].append(cell.outputs(x, state, starts))
    results[1].append(results[1][0])
    for unrolled, expected in zip(*results, strict=True):
        torch.testing.assert_close(unrolled, expected, atol=1e-10, rtol=1e-10)
    assert all(gradient.abs().max() > 0 for gradient in results[1][2:-1])


@each_cell
def test_long_sequences_equal_their_steps_in_single_precision(make: Callable[..., Any]) -> None:
    cell = built(make, 16)
    x, state, starts = numbers(130, BATCH, N_INPUTS), some_state(cell), some_starts(130)
    with torch.no_grad():
        for unrolled, expected in zip(cell.unroll(x, state, starts), stepped(cell, x, state, starts), strict=True):
            torch.testing.assert_close(unrolled, expected, atol=1e-4, rtol=1e-4)


@each_cell
def test_sequences_together_equal_each_alone(make: Callable[..., Any]) -> None:
    cell = built(make)
    x, state, starts = numbers(N_STEPS, BATCH, N_INPUTS), some_state(cell), some_starts()
    together = cell.unroll(x, state, starts)
    for b in range(BATCH):
        one = slice(b, b + 1)
        alone = cell.unroll(x[:, one], state[one], starts[:, one])
        for of_all, of_one in zip(together, alone, strict=True):
            torch.testing.assert_close(of_all[:, one], of_one)


@each_cell
def test_no_value_and_no_gradient_crosses_a_start_or_reaches_another_sequence(make: Callable[..., Any]) -> None:
    cell = built(make).double()
    x, state = numbers(N_STEPS, BATCH, N_INPUTS).double().requires_grad_(), some_state(cell).requires_grad_()
    starts = torch.zeros(N_STEPS, BATCH, dtype=torch.bool)
    starts[4, 1] = True
    outputs, states = cell.unroll(x, state, starts)
    loss = outputs[-1, 1].sum() + states[-1, 1].sum()
    d_x, d_state = torch.autograd.grad(loss, (x, state))
    assert d_x[4:, 1].abs().max() > 0
    assert d_x[:4].abs().max() == d_x[:, [0, 2]].abs().max() == d_state.abs().max() == 0
    zeros = torch.zeros(1, cell.state_size).double()
    alone, _ = cell.unroll(x[4:, 1:2], zeros, torch.zeros(N_STEPS - 4, 1, dtype=torch.bool))
    torch.testing.assert_close(outputs[4:, 1:2], alone)


@each_cell
def test_not_a_number_ends_with_its_episode_and_stays_in_its_sequence(make: Callable[..., Any]) -> None:
    cell = built(make)
    x, starts = numbers(60, BATCH, N_INPUTS), torch.zeros(60, BATCH, dtype=torch.bool)
    x[3, 1], starts[20, 1] = torch.nan, True
    with torch.no_grad():
        outputs, states = cell.unroll(x, cell.initial_state(BATCH), starts)
    for found in (outputs, states):
        assert found[3, 1].isnan().any()
        assert found[20:].isfinite().all()
        assert found[:, [0, 2]].isfinite().all()


@each_cell
def test_a_sequence_cut_in_two_resumes_from_its_state(make: Callable[..., Any]) -> None:
    cell = built(make)
    x, state, starts = numbers(N_STEPS, BATCH, N_INPUTS), some_state(cell), some_starts()
    whole = cell.unroll(x, state, starts)
    first = cell.unroll(x[:4], state, starts[:4])
    second = cell.unroll(x[4:], first[1][-1], starts[4:])
    for together, *parts in zip(whole, first, second, strict=True):
        torch.testing.assert_close(together, torch.cat(parts))


@each_cell
def test_an_episode_begins_with_zeros(make: Callable[..., Any]) -> None:
    cell = built(make)
    assert torch.equal(cell.initial_state(BATCH), torch.zeros(BATCH, cell.state_size))
    assert cell.double().initial_state(1).dtype == torch.float64


@each_cell
def test_arrays_step_as_the_module_does_and_see_changed_parameters(make: Callable[..., Any]) -> None:
    cell = built(make)
    arrays = cell.on_arrays()
    x, state = numbers(BATCH, N_INPUTS), some_state(cell)
    kept = state.clone()
    for change in (0.0, 0.1):
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter += change
            expected = cell.step(x, state)
        for found, wanted in zip(arrays(x.numpy(), state.numpy()), expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(state, kept)


@each_cell
def test_a_copy_is_equal_and_independent_and_so_are_its_arrays(make: Callable[..., Any]) -> None:
    holder = nn.Module()
    holder.cell = built(make)
    holder.arrays = holder.cell.on_arrays()  # type: ignore[assignment]
    copied: Any = copy.deepcopy(holder)
    x, state = numbers(BATCH, N_INPUTS), some_state(holder.cell)
    with torch.no_grad():
        for parameter in holder.cell.parameters():  # type: ignore[operator]
            parameter += 0.1
        expected = copied.cell.step(x, state)
        assert not torch.allclose(holder.cell.step(x, state)[0], expected[0])  # type: ignore[operator]
    for found, wanted in zip(copied.arrays(x.numpy(), state.numpy()), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-5, rtol=1e-5)


@each_cell
def test_saved_parameters_are_all_there_is(make: Callable[..., Any]) -> None:
    cell, other = built(make), make(N_INPUTS, N_HIDDEN, generator=torch.Generator().manual_seed(9))
    x, state, starts = numbers(N_STEPS, BATCH, N_INPUTS), some_state(cell), some_starts()
    assert not torch.allclose(cell.unroll(x, state, starts)[0], other.unroll(x, state, starts)[0])
    other.load_state_dict(cell.state_dict())
    assert torch.equal(cell.unroll(x, state, starts)[0], other.unroll(x, state, starts)[0])


@each_cell
def test_weights_are_from_the_generator(make: Callable[..., Any]) -> None:
    global_state = torch.get_rng_state()
    first, same = built(make), built(make)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), same.parameters(), strict=True))


@each_cell
def test_large_inputs_leave_values_and_gradients_finite(make: Callable[..., Any]) -> None:
    cell = built(make)
    x = (1e4 * numbers(200, BATCH, N_INPUTS)).requires_grad_()
    outputs, states = cell.unroll(x, cell.initial_state(BATCH), some_starts(200))
    gradients = torch.autograd.grad(outputs.square().mean(), [x, *cell.parameters()])
    assert all(found.isfinite().all() for found in (outputs, states, *gradients))


@each_cell
def test_an_empty_layer_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match=r"^n_hidden=0: must be at least 1$"):
        make(N_INPUTS, n_hidden=0)
