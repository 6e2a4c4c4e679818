"""The parallel scan against the loop it replaces: values, gradients, starts of episodes, extreme numbers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from bbrl_exp.nn.scan import Method, _loop_in_torch, linear_scan

BATCH, SIZE = 3, 4
METHODS: list[Method | None] = ["scan", "loop", None]


@pytest.fixture(autouse=True)
def _scan_even_a_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bbrl_exp.nn.scan.FEWEST_ROWS", 3)


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def some_starts(n_steps: int) -> Tensor:
    return torch.rand(n_steps, BATCH, generator=torch.Generator().manual_seed(n_steps)) < 0.2


def by_definition(decay: Tensor, inputs: Tensor, state: Tensor, starts: Tensor) -> Tensor:
    hidden = []
    for t in range(len(inputs)):
        state = (decay if decay.ndim == 1 else decay[t]) * torch.where(starts[t, :, None], 0.0, state) + inputs[t]
        hidden.append(state)
    return torch.stack(hidden)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("is_constant", [False, True])
def test_values_and_gradients_are_those_of_the_definition(
    method: Method | None, dtype: torch.dtype, is_constant: bool
) -> None:
    for n_steps in (1, 2, 5, 8, 33, 64):
        decay = 0.7 * numbers(*([SIZE] if is_constant else [n_steps, BATCH, SIZE]), dtype=dtype)
        arguments = [decay, numbers(n_steps, BATCH, SIZE, dtype=dtype), numbers(BATCH, SIZE, dtype=dtype, seed=2)]
        weights, starts = numbers(n_steps, BATCH, SIZE, dtype=dtype, seed=3), some_starts(n_steps)
        results = []
        for run in (by_definition, lambda *args: linear_scan(*args, method)):
            leaves = [argument.clone().requires_grad_() for argument in arguments]
            hidden = run(*leaves, starts)
            results.append([hidden, *torch.autograd.grad(hidden, leaves, weights)])
        for expected, found in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_a_long_memory_and_a_short_one_are_exact_in_single_precision(method: Method | None) -> None:
    decay = torch.tensor([1.0, 0.999, 1e-3, 0.0])
    impulse = torch.zeros(1024, 1, 4)
    impulse[0] = 1.0
    hidden = linear_scan(decay, impulse, torch.zeros(1, 4), torch.zeros(1024, 1, dtype=torch.bool), method)
    expected = decay.double() ** torch.arange(1024)[:, None, None]
    torch.testing.assert_close(hidden, expected.float(), rtol=1e-4, atol=1e-38)


@pytest.mark.parametrize("method", METHODS)
def test_an_infinite_value_ends_with_its_episode_and_stays_in_its_row(method: Method | None) -> None:
    starts = torch.zeros(40, BATCH, dtype=torch.bool)
    starts[20, 1] = True
    inputs = torch.ones(40, BATCH, SIZE)
    inputs[3, 1] = torch.inf
    for decay in (torch.full((SIZE,), 0.5), torch.full((40, BATCH, SIZE), 0.5)):
        hidden = linear_scan(decay, inputs, torch.zeros(BATCH, SIZE), starts, method)
        assert hidden[3:20, 1].isinf().all()
        assert hidden[20:, 1].isfinite().all()
        assert hidden[:, [0, 2]].isfinite().all()


def test_gradients_agree_with_finite_differences() -> None:
    starts = some_starts(5)
    for decay in (numbers(SIZE, dtype=torch.complex128), numbers(5, BATCH, SIZE, dtype=torch.complex128)):
        inputs, state = (numbers(*shape, dtype=torch.complex128, seed=5) for shape in ((5, BATCH, SIZE), (BATCH, SIZE)))
        leaves = [tensor.requires_grad_() for tensor in (0.5 * decay, inputs, state)]
        assert torch.autograd.gradcheck(lambda *args: linear_scan(*args, starts, "scan"), leaves)


def test_the_arguments_are_left_as_they_are() -> None:
    decay, inputs, state = numbers(9, BATCH, SIZE), numbers(9, BATCH, SIZE, seed=2), numbers(BATCH, SIZE)
    before = [tensor.clone() for tensor in (decay, inputs, state)]
    leaves = [tensor.requires_grad_() for tensor in (decay, inputs, state)]
    weights = numbers(9, BATCH, SIZE, seed=6)
    kept = weights.clone()
    torch.autograd.grad(linear_scan(*leaves, some_starts(9)), leaves, weights)
    for tensor, was in zip((*leaves, weights), (*before, kept), strict=True):
        assert torch.equal(tensor, was)


@pytest.mark.parametrize("is_constant", [False, True])
def test_the_loop_of_other_devices_finds_the_same(is_constant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    decay = numbers(*([SIZE] if is_constant else [9, BATCH, SIZE]))
    leaves = [tensor.requires_grad_() for tensor in (decay, numbers(9, BATCH, SIZE, seed=2), numbers(BATCH, SIZE))]
    weights, results = numbers(9, BATCH, SIZE, seed=4), []
    for _ in range(2):
        hidden = linear_scan(*leaves, some_starts(9), "loop")
        results.append([hidden, *torch.autograd.grad(hidden, leaves, weights)])
        monkeypatch.setattr("bbrl_exp.nn.scan._loop", partial(_loop_in_torch, is_reverse=False))
    for by_numpy, found in zip(*results, strict=True):
        torch.testing.assert_close(by_numpy, found, rtol=1e-11, atol=1e-11)
