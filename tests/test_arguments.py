"""Ranges hold what they say, and a refusal names the argument, its value and what is possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from bbrl_exp.arguments import (
    ABOVE_0,
    ABOVE_0_TO_1,
    AT_LEAST_0,
    AT_LEAST_1,
    COUNT_FROM_0,
    FROM_0_BELOW_1,
    FROM_0_TO_1,
    Range,
    check_sizes,
    check_unused,
)
from bbrl_exp.errors import ConfigurationError


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        (FROM_0_TO_1, (0, 0.5, 1), (-1e-9, 1.5)),
        (FROM_0_BELOW_1, (0, 0.5), (-1e-9, 1)),
        (ABOVE_0_TO_1, (1e-9, 1), (0, 7)),
        (ABOVE_0, (1e-9, 10**9), (0, -1)),
        (AT_LEAST_0, (0, 10**9), (-1e-9, -1)),
    ],
)
def test_a_range_holds_what_it_says(range_: Range, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    for value in inside:
        range_.check(rate=value)
    for value in outside:
        with pytest.raises(ConfigurationError, match=f"^rate={value}: must be {range_.words}$"):
            range_.check(rate=value)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ConfigurationError, match=f"^rate={value}: must be {range_.words}, and finite$"):
            range_.check(rate=value)


def test_the_first_bad_argument_is_named_and_none_is_never_bad() -> None:
    with pytest.raises(ConfigurationError, match=r"^second=1\.5: must be 0 to 1$"):
        FROM_0_TO_1.check(zeroth=None, first=0.5, second=1.5, third=7)


def test_an_argument_without_effect_is_named_with_what_takes_it_away() -> None:
    check_unused("prioritised=false", priority_exponent=None)
    with pytest.raises(ConfigurationError, match=r"^b=0: has no effect with prioritised=false; must be null$"):
        check_unused("prioritised=false", a=None, b=0)


@pytest.mark.parametrize(("range_", "least"), [(AT_LEAST_1, 1), (COUNT_FROM_0, 0)])
def test_a_count_is_a_whole_number(range_: Range, least: int) -> None:
    for value in (least, 2**63 - 1, np.int64(7), np.uint8(7)):
        range_.check(n_steps=value)
    with pytest.raises(ConfigurationError, match=f"^n_steps={least - 1}: must be at least {least}$"):
        range_.check(n_steps=least - 1)
    for value in (2.0, 2.5, math.nan, math.inf, True, np.bool_(True), np.float64(3), "4", torch.tensor(3)):
        with pytest.raises(ConfigurationError) as caught:
            range_.check(n_steps=value)
        assert str(caught.value) == f"n_steps={value}: must be a whole number, at least {least}"


@pytest.mark.parametrize("sizes", [[], (1, 64), [np.int64(3)]])
def test_sizes_are_lists_of_counts(sizes: Sequence[int]) -> None:
    check_sizes(hidden_sizes=sizes)


@pytest.mark.parametrize("sizes", [[0], [64, 2.5], [True], 64, "64", ["64"], None, (64, -1)])
def test_anything_else_is_refused_as_a_list_of_sizes(sizes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^hidden_sizes=.*: must be a list of whole numbers, none below 1$"):
        check_sizes(first=[1], hidden_sizes=sizes)
