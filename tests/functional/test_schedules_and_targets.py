"""Schedules at their ends and between; target networks that follow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bbrl_exp.functional.schedules import completes_period, linear, linear_until
from bbrl_exp.functional.targets import copy_buffers, copy_tensors, polyak_update


@pytest.mark.parametrize(("fraction", "value"), [(-1, 3), (0, 3), (0.25, 2.5), (0.5, 2), (1, 1), (2, 1)])
def test_a_linear_schedule_goes_from_start_to_end_and_no_further(fraction: float, value: float) -> None:
    assert linear(3, 1, fraction) == value


@pytest.mark.parametrize(("fraction", "value"), [(0, 1), (0.1, 0.55), (0.2, 0.1), (0.3, 0.1), (1, 0.1)])
def test_exploration_is_over_when_its_part_of_the_run_is(fraction: float, value: float) -> None:
    assert linear_until(1.0, 0.1, fraction, until=0.2) == pytest.approx(value)


def test_exploration_without_a_part_of_the_run_is_its_end() -> None:
    assert linear_until(1.0, 0.1, 0.0, until=0.0) == 0.1


@pytest.mark.parametrize(
    ("period", "numbers"),
    [(4, [4, 8, 12]), (2.5, [3, 5, 8, 10]), (1, [*range(1, 13)]), (0.3, [*range(1, 13)]), (12.5, [])],
)
def test_events_complete_periods_without_an_error_that_adds_up(period: float, numbers: list[int]) -> None:
    assert [number for number in range(1, 13) if completes_period(number, period)] == numbers


def test_targets_move_by_the_rate() -> None:
    targets = [torch.zeros(2), torch.full((1, 2), 10.0)]
    sources = [torch.full((2,), 4.0, requires_grad=True), torch.full((1, 2), 20.0, requires_grad=True)]
    memory = [target.data_ptr() for target in targets]
    polyak_update(targets, sources, 0.25)
    assert [target.tolist() for target in targets] == [[1, 1], [[12.5, 12.5]]]
    assert [target.data_ptr() for target in targets] == memory
    assert not any(target.requires_grad for target in targets)


def test_a_rate_of_one_copies_and_a_rate_of_zero_does_nothing() -> None:
    targets, sources = [torch.tensor([1.0, 2.0])], [torch.tensor([0.1, 7.0])]
    polyak_update(targets, sources, 0.0)
    assert targets[0].tolist() == [1, 2]
    polyak_update(targets, sources, 1.0)
    assert torch.equal(targets[0], sources[0])


def test_a_copy_is_the_same_and_not_shared() -> None:
    targets, sources = [torch.zeros(2), torch.zeros(1, dtype=torch.int64)], [torch.ones(2), torch.tensor([3])]
    copy_tensors(targets, sources)
    sources[0] += 1
    assert [target.tolist() for target in targets] == [[1, 1], [3]]


def test_buffers_are_copied_whatever_their_dtype_and_parameters_are_not() -> None:
    target, source = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        source.weight.fill_(3.0)
    source(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    copy_buffers([(target, source)])
    assert target.num_batches_tracked == 1
    torch.testing.assert_close(target.running_mean, torch.tensor([0.2, 0.4]))  # a tenth of the means
    assert target.weight.tolist() == [1.0, 1.0]
    source(torch.ones(2, 2))
    torch.testing.assert_close(target.running_mean, torch.tensor([0.2, 0.4]))
