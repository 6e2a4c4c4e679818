"""What a memory that is linear in its state shows of it: a layer on the state and the input, with a nonlinearity."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.nn.parameter_arrays import ParameterArrays
from bbrl_exp.nn.recurrent_arrays import product


class Readout(nn.Module):
    """y = SiLU(C h + D x + c): one layer that combines what is remembered with what is seen.

    A recurrence whose factors do not depend on its state cannot by itself choose what to do with what it remembers; in
    deep models the layers between two memories do that.

    Args:
        n_memory: size M of what is remembered.
        n_inputs: number D of numbers of an input.
        n_hidden: number H of outputs.
    """

    def __init__(self, n_memory: int, n_inputs: int, n_hidden: int) -> None:
        super().__init__()
        self.memory_weight = nn.Parameter(torch.empty(n_hidden, n_memory))
        self.input_weight = nn.Parameter(torch.empty(n_hidden, n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_hidden))

    def forward(self, memory: Tensor, x: Tensor) -> Tensor:
        """Outputs ``[…, H]`` for ``[…, M]`` and ``[…, D]``."""
        linear = nn.functional.linear
        return nn.functional.silu(linear(memory, self.memory_weight, self.bias) + linear(x, self.input_weight))


class ArrayReadout:
    """The same function on the CPU, computed by numpy, without gradients.

    Args:
        readout: the module, float32 on the CPU; changes of its parameters are seen.
    """

    def __init__(self, readout: Readout) -> None:
        self._parameters = ParameterArrays((readout.memory_weight, readout.input_weight, readout.bias))

    def __call__(self, memory: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """Outputs ``[B, H]`` for ``[B, M]`` and ``[B, D]``."""
        memory_weight, input_weight, bias = self._parameters()
        outputs = product(memory, memory_weight)
        outputs += product(x, input_weight)
        outputs += bias
        halves = outputs * 0.5  # SiLU, y σ(y), is ½ y (1 + tanh ½ y)
        squashed = np.tanh(halves)
        squashed += 1.0
        squashed *= halves
        return squashed
