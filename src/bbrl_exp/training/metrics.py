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

# First parts of names under which the tracker records what it computes itself.
_OF_EVALUATIONS = ("eval", "final_eval", "eval_sample", "final_eval_sample")
_OF_THE_RUN = (*_OF_EVALUATIONS, "train", "time", "system", "memory", "workspace", "histograms", "Final")
_ON_PAGES_OF_TENSORBOARD = ("(final)", "1_learning_curves")


class NewestMetrics:
    """Keeps the newest value of each metric, for a record every so many environment steps.

    Args:
        every: environment steps between two records, at least.
        learner: whose metrics they are, for messages.
    """

    def __init__(self, every: int, learner: str) -> None:
        self._every = every
        self._learner = learner
        self._known_names: set[object] = set()
        self._next_record = 0
        self._newest: Metrics = {}

    def add(self, metrics: Metrics) -> None:
        """Takes the metrics of an update; those that it leaves out stay as they were.

        Raises:
            TypeError: they are not a mapping from names to numbers and tensors of one element, or a name cannot be
                recorded; the message names learner and metric.
        """
        if not isinstance(metrics, Mapping):
            raise TypeError(
                f"{self._learner}.update gave {type(metrics).__name__}: must be a mapping of metrics, {{}} for none"
            )
        for name, value in metrics.items():
            if name not in self._known_names:
                self._check_name(name)
            if not _is_number(value):
                raise TypeError(
                    f"{self._learner}: metric '{name}' is {_kind_of(value)}: must be a number or a tensor of one "
                    "element"
                )
        self._newest = {**self._newest, **metrics}

    def _check_name(self, name: object) -> None:
        if not isinstance(name, str) or not name.isprintable() or not name or "," in name or '"' in name:
            problem = "must be a text without commas, quotes and line breaks"
        elif name.split("/")[0] in (*_OF_THE_RUN, *_ON_PAGES_OF_TENSORBOARD):
            problem = f"'{name.split('/')[0]}' is for what the run records itself; use 'learner/…' or 'losses/…'"
        else:
            self._known_names.add(name)
            return
        raise TypeError(f"{self._learner}: metric {name!r}: {problem}")

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
            DivergedError: one of them is not finite; the message names it.
        """
        self._next_record = (env_steps // self._every + 1) * self._every
        newest, self._newest = self._newest, {}
        return finite_metrics(newest, env_steps)

    def state(self) -> dict[str, Any]:
        """When the next record is due, and the metrics for it."""
        return {"next_record": self._next_record, "newest": dict(self._newest)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self._next_record = state["next_record"]
        self._newest = state["newest"]


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    if isinstance(value, np.ndarray | np.number):
        return value.size == 1 and value.dtype.kind in "biuf"
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1023)


def _kind_of(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"[:80]


def finite_metrics(metrics: Metrics, env_steps: int) -> dict[str, float]:
    """Metrics as numbers, brought from their device in one transfer.

    Raises:
        DivergedError: one of them is not finite; the message names it.
    """
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
    values = (
        torch.stack([value.detach().double().reshape(()) for value in tensors.values()]).tolist() if tensors else []
    )
    numbers = {
        name: float(value.item() if isinstance(value, np.ndarray) else value)
        for name, value in {**metrics, **dict(zip(tensors, values, strict=True))}.items()
    }
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise DivergedError(f"metric '{name}' is {number} after {env_steps:,} environment steps")
    return numbers
