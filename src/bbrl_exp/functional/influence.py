"""How long a memory keeps what it was shown: the gradient of its later outputs with respect to its earlier inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST_ROWS = 2**13  # of one backward pass, which holds them all in memory


@dataclass(frozen=True)
class Influence:
    """How strongly the outputs of a sequence depend on each of its inputs.

    Attributes:
        times: K output times t in ascending order.
        norms: ``[K, T]``, the Frobenius norms ‖∂o_t/∂x_s‖ of P × D derivatives; zeros where s > t.
    """

    times: tuple[int, ...]
    norms: NDArray[np.float64]

    @property
    def by_lag(self) -> NDArray[np.float64]:
        """The mean norm for each lag t − s from 0 to the last output time, over the outputs that reach so far back."""
        sums = np.zeros(self.times[-1] + 1)
        counts = np.zeros(len(sums))
        for time, row in zip(self.times, self.norms, strict=True):
            sums[: time + 1] += row[time::-1]
            counts[: time + 1] += 1
        return sums / counts

    @property
    def of_last(self) -> NDArray[np.float64]:
        """The norms of the last output for each lag."""
        return self.norms[-1, self.times[-1] :: -1]


def memory_length(by_lag: NDArray[np.float64], fraction: float = 0.9) -> int | None:
    """The smallest lag within which at least ``fraction`` of the sum of norms lies; None where all are zero."""
    within = np.cumsum(by_lag)
    return int(np.searchsorted(within, fraction * within[-1])) if within[-1] > 0 else None


def influence(outputs_of: Callable[[Tensor], Tensor], inputs: Tensor, times: Sequence[int]) -> Influence:
    """The exact derivatives of outputs with respect to all inputs, through the whole sequence.

    The sequence is unrolled side by side once per output time, as a batch of copies: a backward pass for one component
    of the outputs then gives the derivatives at all these times.

    Args:
        outputs_of: from inputs ``[T, N, D]`` of N sequences, each from its beginning, to outputs ``[T, N, P]``;
            differentiable, and without influence of one sequence on another.
        inputs: one sequence, ``[T, D]``.
        times: K output times in ascending order, each below T.
    """
    norms = np.zeros((len(times), len(inputs)))
    at_once = max(1, _MOST_ROWS // len(inputs))
    for first in range(0, len(times), at_once):
        part = list(times[first : first + at_once])
        n_rows = part[-1] + 1
        copies = inputs[:n_rows].detach().unsqueeze(1).repeat(1, len(part), 1).requires_grad_()
        with torch.enable_grad():
            outputs = outputs_of(copies)[part, range(len(part))]
        if not outputs.requires_grad:
            continue
        squares = torch.zeros(n_rows, len(part), dtype=torch.float64)
        for component in outputs.sum(dim=0):
            (gradient,) = torch.autograd.grad(component, copies, retain_graph=True, materialize_grads=True)
            squares += gradient.detach().cpu().double().square().sum(dim=2)
        norms[first : first + len(part), :n_rows] = squares.sqrt().T.numpy()
    return Influence(tuple(times), norms)
