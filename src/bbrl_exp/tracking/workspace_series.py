"""What is worth a curve in the rows of a workspace: from ``[T, B, …]`` arrays to named series ``[T]``.

=====================================  ==========================================================
variable                               series under ``workspace/<variable>/``
=====================================  ==========================================================
number, ``[T, B]``                     ``mean``, ``min``, ``max`` over the batch
small vector of numbers                the same for each component, ``<component>/mean``, …
larger tensor (an image)               ``mean``, ``min``, ``max`` over batch and components
boolean                                ``fraction`` that is true, by component if small
discrete action of few values          ``<value>/fraction``: how often each was chosen
=====================================  ==========================================================

With one environment a ``mean`` is the value itself, and ``min`` and ``max`` are left out where they would repeat it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

MAX_ACTION_VALUES = 16


def rows_on_cpu(variables: Mapping[str, torch.Tensor], first: int) -> dict[str, NDArray[Any]]:
    """The rows from ``first`` on as numpy arrays: views of what is on the CPU, one transfer for what is on a device.

    Complex numbers have no order and are left out; bfloat16, which numpy lacks, becomes float32.
    """
    rows: dict[str, NDArray[Any]] = {}
    elsewhere: dict[str, torch.Tensor] = {}
    for name, variable in variables.items():
        tensor = variable.float() if variable.dtype == torch.bfloat16 else variable
        if tensor.is_cpu and not tensor.is_complex():
            rows[name] = tensor.detach().numpy()[first:]
        elif not tensor.is_complex():
            elsewhere[name] = tensor.detach()[first:]
    if elsewhere:
        rows |= {name: tensor.numpy() for name, tensor in in_one_transfer(elsewhere).items()}
    return rows


def in_one_transfer(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of one device on the CPU, packed as bytes so that a single copy brings them all."""
    pieces = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in tensors.values()]
    arrived = torch.cat(pieces).cpu()
    result: dict[str, torch.Tensor] = {}
    first = 0
    for (name, tensor), piece in zip(tensors.items(), pieces, strict=True):
        last = first + len(piece)
        # The clone aligns the bytes, which `view` asks for.
        result[name] = arrived[first:last].clone().view(tensor.dtype).reshape(tensor.shape)
        first = last
    return result


@dataclass
class _Columns:
    """Components of several variables with the same batch size, reduced together."""

    numbers: list[NDArray[Any]] = field(default_factory=list)
    number_tags: list[str] = field(default_factory=list)
    fractions: list[NDArray[Any]] = field(default_factory=list)
    fraction_tags: list[str] = field(default_factory=list)

    def reduce(self, times: int, batch_size: int, bands: bool) -> tuple[list[str], list[NDArray[np.float64]]]:
        """Names, and series ``[C, T]``.

        The batch is put first and time last, so that each reduction adds or compares long contiguous rows.
        """
        n_numbers = len(self.number_tags)
        together = np.empty((batch_size, n_numbers + len(self.fraction_tags), times), dtype=np.float64)
        first = 0
        for components in self.numbers + self.fractions:
            last = first + components.shape[2]
            together[:, first:last] = components.transpose(1, 2, 0)
            first = last
        tags = [f"{tag}/mean" for tag in self.number_tags] + [f"{tag}/fraction" for tag in self.fraction_tags]
        series = [np.add.reduce(together, axis=0) / batch_size]
        if n_numbers and batch_size > 1 and bands:
            tags += [f"{tag}/min" for tag in self.number_tags] + [f"{tag}/max" for tag in self.number_tags]
            series.append(np.minimum.reduce(together[:, :n_numbers], axis=0))
            series.append(np.maximum.reduce(together[:, :n_numbers], axis=0))
        return tags, series


def workspace_series(
    rows: Mapping[str, NDArray[Any]],
    *,
    max_components: int,
    discrete_actions: Mapping[str, tuple[int, int]],
    bands: bool = True,
) -> tuple[list[str], NDArray[np.float64]]:
    """Every variable's series over T time steps.

    Args:
        rows: name → ``[T, B, …]`` (or ``[T]``, taken for a batch of one), T the same for all.
        max_components: vectors of more components than this are summed up as a whole.
        discrete_actions: name → (smallest value, number of values) of actions from a discrete space.
        bands: whether numbers have their minima and maxima over the batch, beside the mean.

    Returns:
        S tags, and the values ``[S, T]``. A NaN in a variable is a NaN in its series and touches no other.
    """
    tags: list[str] = []
    series: list[NDArray[np.float64]] = []
    by_batch_size: dict[int, _Columns] = {}
    times = 0
    with np.errstate(all="ignore"):
        for name, array in rows.items():
            times = array.shape[0]
            batch_size = array.shape[1] if array.ndim > 1 else 1
            n_components = math.prod(array.shape[2:])
            if batch_size * n_components == 0:
                continue
            components = array.reshape(times, batch_size, n_components)
            prefix = f"workspace/{name}"
            if n_components > max_components:
                for statistic, values in _whole(components):
                    tags.append(f"{prefix}/{statistic}")
                    series.append(values[None])
                continue
            columns = by_batch_size.setdefault(batch_size, _Columns())
            prefixes = [f"{prefix}/{i}" for i in range(n_components)] if array.ndim > 2 else [prefix]
            start, count = discrete_actions.get(name, (0, 0))
            if 0 < count <= MAX_ACTION_VALUES and n_components == 1:
                choices = np.arange(start, start + count)
                chosen = components[None, :, :, 0] == choices[:, None, None]
                columns.fractions.append(chosen.transpose(1, 2, 0))
                columns.fraction_tags += [f"{prefix}/{choice}" for choice in choices]
            elif array.dtype == np.bool_:
                columns.fractions.append(components)
                columns.fraction_tags += prefixes
            else:
                columns.numbers.append(components)
                columns.number_tags += prefixes
        for batch_size, columns in by_batch_size.items():
            column_tags, column_series = columns.reduce(times, batch_size, bands)
            tags += column_tags
            series += column_series
        return tags, np.concatenate(series) if series else np.empty((0, times))


def _whole(components: NDArray[Any]) -> Iterable[tuple[str, NDArray[np.float64]]]:
    flat = components.reshape(len(components), -1)
    mean = flat.mean(axis=1, dtype=np.float64)
    if flat.dtype == np.bool_:
        return [("fraction", mean)]
    return [
        ("mean", mean),
        ("min", flat.min(axis=1).astype(np.float64)),
        ("max", flat.max(axis=1).astype(np.float64)),
    ]
