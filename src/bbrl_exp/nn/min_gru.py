"""minGRU: a gated memory whose gates see the input only, so that sequences are unrolled in parallel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.arguments import Range
from bbrl_exp.nn.cell import Cell
from bbrl_exp.nn.parameter_arrays import ParameterArrays
from bbrl_exp.nn.readout import ArrayReadout, Readout
from bbrl_exp.nn.recurrent_arrays import product
from bbrl_exp.nn.scan import linear_scan

_FROM_1 = Range("at least 1", lambda value: value >= 1)


class MinGRU(Cell):
    """A layer with memory (Feng et al., 2024, arXiv:2410.01201), σ the logistic function:

        z = σ(W_z x + b_z)    h̃ = W_h x + b_h    h' = (1 − z) ⊙ h + z ⊙ h̃    y = readout(h', x)

    The recurrence is the paper's first (section 3.1.2), with a candidate of any sign. Its second, g(h̃) > 0 in place of
    h̃, exists for a scan over logarithms; ours needs none (see ``nn/scan.py``), and what is to be remembered has signs.
    The paper stacks such layers, with perceptrons between them; a single one in an agent needs the layers of
    :class:`~bbrl_exp.nn.readout.Readout`, since h' alone is a weighted mean of what single inputs said.

    The state is h', ``[B, H]``, and the gradient of :meth:`unroll` reaches the state it begins with. At first b_z
    spreads the times over which the units forget from 2 to ``longest`` + 1 steps, evenly on a logarithmic scale: h
    keeps the share 1 − z = τ / (1 + τ), τ from 1 to ``longest`` (as the chrono initialisation of Tallec & Ollivier,
    2018, arXiv:1804.11188, but spread by the logarithm).

    Args:
        n_inputs: number D of numbers of an input.
        n_hidden: number H of units, and of numbers of an output.
        longest: of the initial times, in steps.
        generator: source of the initial weights; torch's global one by default.

    Attributes:
        state_size: S = H.

    Raises:
        ConfigurationError: a size or a time below 1.
    """

    def __init__(
        self, n_inputs: int, n_hidden: int = 64, longest: float = 32.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(n_inputs, n_hidden, n_hidden)
        _FROM_1.check(longest=longest)
        self.weight = nn.Parameter(torch.empty(2 * self.n_hidden, self.n_inputs))
        self.bias = nn.Parameter(torch.zeros(2 * self.n_hidden))
        self.readout = Readout(self.n_hidden, self.n_inputs, self.n_hidden, generator)
        with torch.no_grad():
            for weight in (
                *torch.split(self.weight, self.n_hidden),
                self.readout.memory_weight,
                self.readout.input_weight,
            ):
                nn.init.orthogonal_(weight, generator=generator)
            log_times = math.log(longest) * torch.rand(self.n_hidden, generator=generator)
            self.bias[: self.n_hidden] = -log_times  # z = 1 / (1 + τ)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        update, candidate = self._gates(x)
        state = torch.lerp(state, candidate, update)
        return self.readout(state, x), state

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        update, candidate = self._gates(x)
        states = linear_scan(1.0 - update, update * candidate, state, starts)
        return self.readout(states, x), states

    def on_arrays(self) -> ArrayMinGRU:
        return ArrayMinGRU(self)

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        update, candidate = nn.functional.linear(x, self.weight, self.bias).chunk(2, dim=-1)
        return update.sigmoid(), candidate


class ArrayMinGRU:
    """The steps of a :class:`MinGRU` on the CPU, computed by numpy, without gradients.

    Args:
        cell: the module, float32 on the CPU; changes of its parameters are seen.
    """

    def __init__(self, cell: MinGRU) -> None:
        self._parameters = ParameterArrays((cell.weight, cell.bias))
        self._readout = ArrayReadout(cell.readout)
        self._size = cell.n_hidden

    def __call__(self, x: NDArray[Any], state: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The output ``[B, H]`` and the next state ``[B, S]`` for float32 ``[B, D]`` and ``[B, S]``."""
        weight, bias = self._parameters()
        gates = product(x, weight)
        gates += bias
        following = gates[:, self._size :] - state
        update = np.tanh(0.5 * gates[:, : self._size])  # σ(u) is ½ (1 + tanh ½ u)
        update += 1.0
        following *= update
        following *= 0.5
        following += state
        return self._readout(following, x), following
