"""Reads ``metrics.csv``, whole or damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE_NAME = "metrics.csv"
EVALUATIONS = "eval/return_mean"
TRAINING_RETURNS = "train/return"
# Sums and squares of what is beyond overflow; no return is.
_LARGEST = 1e100
_COLUMNS = ["env_steps", "name", "value"]


@dataclass(frozen=True)
class Series:
    """Values over environment steps: ``env_steps`` ``[N]`` never falls, ``values`` ``[N]`` are finite."""

    env_steps: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """What a report needs of ``metrics.csv``.

    Attributes:
        last: the last value of each name, NaN where it is none.
        series: the evaluations and the returns of training episodes, those of them that are there.
        faults: what is wrong with the file, in words.
    """

    last: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Series] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def read_metrics(folder: Path) -> Metrics:
    """The metrics of the run in ``folder``; a row that cannot be read is left out and told."""
    try:
        text = (folder / FILE_NAME).read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return Metrics(faults=(f"no {FILE_NAME}",))
    except OSError as error:
        return Metrics(faults=(f"{FILE_NAME} cannot be read: {error.strerror}",))
    header, *lines = text.split("\n")
    if not text.strip():
        return Metrics(faults=(f"{FILE_NAME} is empty",))
    if header.rstrip("\r").split(",")[:3] != _COLUMNS:
        return Metrics(faults=(f"the columns of {FILE_NAME} are not {','.join(_COLUMNS)}",))
    faults = []
    if lines and lines.pop():
        faults.append(f"the last row of {FILE_NAME} is not whole")
    last: dict[str, float] = {}
    kept: dict[str, list[tuple[float, float]]] = {EVALUATIONS: [], TRAINING_RETURNS: []}
    n_unreadable = n_not_finite = 0
    for line in lines:
        try:
            step_text, name, value_text, *_ = line.split(",")
            step, value = float(step_text), float(value_text)
        except ValueError:
            n_unreadable += 1
            continue
        last[name] = value
        if name in kept:
            if is_usable(step) and is_usable(value):
                kept[name].append((step, value))
            else:
                n_not_finite += 1
    if n_unreadable:
        faults.append(f"{n_unreadable} rows of {FILE_NAME} cannot be read")
    if n_not_finite:
        faults.append(f"{n_not_finite} returns in {FILE_NAME} are not finite, or beyond {_LARGEST:g}")
    series = {name: _series(points) for name, points in kept.items() if points}
    return Metrics(last, series, tuple(faults))


def is_usable(value: float) -> bool:
    """Whether a report can compute with ``value``: it is finite, and not so large that sums overflow."""
    return abs(value) <= _LARGEST


def _series(points: list[tuple[float, float]]) -> Series:
    columns = np.asarray(points, np.float64)
    order = np.argsort(columns[:, 0], kind="stable")
    return Series(columns[order, 0], columns[order, 1])
