"""Minibatches: every sample once an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bbrl_exp.data.transitions import minibatches, parts
from bbrl_exp.errors import ConfigurationError


@pytest.mark.parametrize(("n_samples", "size"), [(12, 4), (13, 4), (3, 10), (1, 1), (100, 7), (5, 1)])
def test_an_epoch_visits_every_sample_once(n_samples: int, size: int) -> None:
    parts = list(minibatches(n_samples, size, np.random.default_rng(0)))
    assert sorted(torch.cat(parts).tolist()) == list(range(n_samples))
    assert all(part.dtype == torch.int64 for part in parts)


def test_sizes_differ_by_one_at_most_and_none_is_too_large() -> None:
    assert [len(part) for part in minibatches(13, 4, np.random.default_rng(0))] == [4, 3, 3, 3]


@pytest.mark.parametrize(
    ("n_samples", "n_parts", "sizes"),
    [(6, 4, [2, 2, 1, 1]), (9, 4, [3, 2, 2, 2]), (10, 8, [2, 2, *[1] * 6]), (3, 4, [1, 1, 1])],
)
def test_there_are_as_many_parts_as_asked_for_while_there_are_samples(
    n_samples: int, n_parts: int, sizes: list[int]
) -> None:
    found = list(parts(n_samples, n_parts, np.random.default_rng(0)))
    assert [len(part) for part in found] == sizes
    assert sorted(torch.cat(found).tolist()) == list(range(n_samples))


def test_epochs_differ_and_equal_generators_give_equal_ones() -> None:
    generator = np.random.default_rng(3)
    first, second = (torch.cat(list(minibatches(50, 7, generator))).tolist() for _ in range(2))
    assert first != second
    assert torch.cat(list(minibatches(50, 7, np.random.default_rng(3)))).tolist() == first


@pytest.mark.parametrize(("n_samples", "size"), [(0, 4), (4, 0)])
def test_nothing_to_visit_is_refused(n_samples: int, size: int) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        minibatches(n_samples, size, np.random.default_rng(0))
