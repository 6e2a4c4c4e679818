"""The largest difference between rows that should be the same, and where the first one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Rows = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Difference:
    """What a comparison found.

    Attributes:
        largest: the largest difference of two numbers, relative to 1 + |expected|.
        tolerance: the largest one that passes.
        where: the first row that differs by more; empty where none does.
        rows: bool ``[T, B]``, the rows that differ by more.
    """

    largest: float
    tolerance: float
    where: str = ""
    rows: Tensor | None = None

    def __and__(self, other: Difference) -> Difference:
        """Both together: the first one that fails, else the larger one relative to its tolerance."""
        if self.where or other.where:
            return self if self.where else other
        return max(self, other, key=lambda each: each.largest / each.tolerance if each.tolerance else each.largest)

    def at(self, place: str) -> Difference:
        """The same, with a place put before ``where``."""
        return replace(self, where=f"{place}: {self.where}") if self.where else self


def differences(
    expected: Rows, found: Rows, tolerance: float, counts: Tensor | None = None, first_time: int = 0
) -> Difference:
    """Compares rows ``[T, B, …]`` of variables.

    Args:
        expected: what they should be.
        found: what they are; the same variables.
        tolerance: of numbers x: by how many times 1 + |x| they may differ. Integers must be equal.
        counts: bool ``[T, B]``: the rows that are compared; None for all.
        first_time: time of row 0, for ``where``.
    """
    largest, rows, first = 0.0, None, ""
    earliest: tuple[int, int] | None = None
    for name, wanted in expected.items():
        error = _errors(wanted, found[name])
        if counts is not None:
            error = torch.where(counts, error, 0.0)
        if not error.numel():
            continue
        largest = max(largest, float(error.max()))
        allowed = tolerance if wanted.is_floating_point() else 0.0
        differs = ~(error <= allowed)  # NaN differs
        rows = differs if rows is None else rows | differs
        if not bool(differs.any()):
            continue
        t, b = differs.nonzero()[0].tolist()
        if earliest is None or (t, b) < earliest:
            earliest = (t, b)
            first = f"'{name}' at t={t + first_time}, environment {b}: {_values(wanted[t, b], found[name][t, b])}"
    where = "" if rows is None or not first else f"{first} ({_share(rows, counts)})"
    return Difference(largest, tolerance, where, rows)


def _errors(expected: Tensor, found: Tensor) -> Tensor:
    """The largest difference in each row, float64 ``[T, B]``."""
    one, other = expected.detach().double(), found.detach().double()
    error = (one - other).abs() / (1.0 + one.abs() if expected.is_floating_point() else 1.0)
    error = torch.where(error.isfinite() | (one == other), error, torch.inf)
    return error.nan_to_num(0.0, posinf=torch.inf).flatten(2).amax(2) if error.ndim > 2 else error.nan_to_num(0.0)


def _values(expected: Tensor, found: Tensor) -> str:
    """The two numbers that differ most."""
    if not expected.ndim:
        return f"{_shown(found)} instead of {_shown(expected)}"
    one, other = expected.detach().double().flatten(), found.detach().double().flatten()
    index = int((one - other).abs().nan_to_num(torch.inf).argmax())
    return f"{other[index]:.4g} instead of {one[index]:.4g} in component {index}"


def _shown(value: Tensor) -> str:
    return f"{value.item():.4g}" if value.is_floating_point() else str(value.item())


def _share(rows: Tensor, counts: Tensor | None) -> str:
    n_rows = rows.numel() if counts is None else int(counts.sum())
    return f"{int(rows.sum())} of {n_rows} rows differ"
