"""What a learner reports: the newest values, turned into numbers only when they are recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.errors import DivergedError
from bbrl_exp.learners.learner import Metrics


class NewestMetrics:
    """Keeps the newest value of each metric, for a record every so many environment steps."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._next_record = 0
        self._newest: Metrics = {}

    def add(self, metrics: Metrics) -> None:
        """Takes the metrics of an update; those that it does not report stay as they were.

        Raises:
            TypeError: they are no mapping from names to numbers and tensors of one element; the message names which.
        """
        if not isinstance(metrics, Mapping):
            raise TypeError(f"update gave {type(metrics).__name__}: must be a mapping of metrics, {{}} for none")
        for name, value in metrics.items():
            if not _is_number(value):
                raise TypeError(f"metric '{name}' is {_kind_of(value)}: must be a number or a tensor of one element")
        self._newest = {**self._newest, **metrics}

    @property
    def has_any(self) -> bool:
        """Whether there is something to record."""
        return bool(self._newest)

    def due(self, env_steps: int) -> bool:
        """Whether it is time for a record and there is something to record."""
        return env_steps >= self._next_record and bool(self._newest)

    def take(self, env_steps: int) -> dict[str, float]:
        """The newest metrics as numbers; they are forgotten here.

        Raises:
            DivergedError: one of them is no number; the message names it.
        """
        self._next_record = (env_steps // self._every + 1) * self._every
        newest, self._newest = self._newest, {}
        return finite_metrics(newest, env_steps)

    def state(self) -> dict[str, Any]:
        """When the next record is due, and what there is for it."""
        return {"next_record": self._next_record, "newest": dict(self._newest)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self._next_record = state["next_record"]
        self._newest = state["newest"]


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.size == 1)


def _kind_of(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"[:80]


def finite_metrics(metrics: Metrics, env_steps: int) -> dict[str, float]:
    """Metrics as numbers, brought from their device in one transfer.

    Raises:
        DivergedError: one of them is no number; the message names it.
    """
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
    values = (
        torch.stack([value.detach().double().reshape(()) for value in tensors.values()]).tolist() if tensors else []
    )
    numbers = {name: float(value) for name, value in {**metrics, **dict(zip(tensors, values, strict=True))}.items()}
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise DivergedError(f"metric '{name}' is {number} after {env_steps:,} environment steps")
    return numbers
