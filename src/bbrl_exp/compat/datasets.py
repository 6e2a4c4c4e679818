"""BBRL's agents that write the examples of a data set at t = 0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from bbrl_exp.arguments import AT_LEAST_1
from bbrl_exp.compat.agent import Agent
from bbrl_exp.errors import ConfigurationError


class ShuffledDatasetAgent(Agent):
    """Writes examples drawn uniformly with replacement.

    Args:
        dataset: a sequence of tuples of tensors or numbers.
        batch_size: number of examples per call.
        output_names: the variables, one per item of a tuple.
    """

    def __init__(self, dataset: Sequence[Any], batch_size: int, output_names: Sequence[str] = ("x", "y")) -> None:
        super().__init__()
        AT_LEAST_1.check(batch_size=batch_size)
        self.dataset, self.batch_size, self.output_names = dataset, batch_size, tuple(output_names)
        self._generator = np.random.default_rng()

    def seed(self, seed: int | None = None) -> None:
        """Restarts the draws from ``seed``; None for one of the system."""
        self._generator = np.random.default_rng(seed)

    def forward(self, **kwargs: Any) -> None:
        """Writes row 0 of each variable, ``[batch_size, …]``."""
        drawn = self._generator.integers(len(self.dataset), size=self.batch_size)
        examples = [self.dataset[int(index)] for index in drawn]
        for name, values in zip(self.output_names, zip(*examples, strict=True), strict=True):
            self.set((name, 0), torch.stack([torch.as_tensor(value) for value in values]).to(self.agent_device))


class DataLoaderAgent(Agent):
    """Writes the batches of a ``DataLoader`` one after the other; when :meth:`finished`, a call has written nothing.

    Args:
        dataloader: gives tuples of tensors ``[B, …]``.
        output_names: the variables, one per item of a tuple.
    """

    def __init__(self, dataloader: Iterable[Any], output_names: Sequence[str] = ("x", "y")) -> None:
        super().__init__()
        self.dataloader, self.output_names = dataloader, tuple(output_names)
        self.reset()

    def reset(self) -> None:
        """Begins with the first batch again."""
        self._batches: Iterator[Any] = iter(self.dataloader)
        self._finished = False

    def finished(self) -> bool:
        """Whether the last call has found no batch."""
        return self._finished

    def forward(self, **kwargs: Any) -> None:
        """Writes row 0 of each variable, if there is a batch left.

        Raises:
            ConfigurationError: a batch of another number of items than there are variables.
        """
        values = next(self._batches, None)
        if values is None:
            self._finished = True
            return
        if len(values) != len(self.output_names):
            raise ConfigurationError(f"{self.label}: {len(values)} items per batch for {len(self.output_names)} names")
        for name, value in zip(self.output_names, values, strict=True):
            self.set((name, 0), value.to(self.agent_device))
