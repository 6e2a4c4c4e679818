"""What a memory that is linear in its state shows of it: layers on the state and the input, with nonlinearities."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.nn.parameter_arrays import ParameterArrays
from bbrl_exp.nn.recurrent_arrays import product


class Readout(nn.Module):
    """Two layers that combine what is remembered with what is seen, as a gated linear unit:

        u = SiLU(C h + D x + c)    y = (V u + v) ⊙ σ(G u + g)

    A recurrence whose factors do not depend on its state cannot by itself choose what to do with what it remembers; in
    deep models the layers between two memories do that.

    Args:
        n_memory: size M of what is remembered.
        n_inputs: number D of numbers of an input.
        n_hidden: number H of outputs, and of u.
        generator: source of the initial weights of V and G, which are orthogonal; C and D are left to the caller.
    """

    def __init__(self, n_memory: int, n_inputs: int, n_hidden: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.memory_weight = nn.Parameter(torch.empty(n_hidden, n_memory))
        self.input_weight = nn.Parameter(torch.empty(n_hidden, n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.output_weight = nn.Parameter(torch.empty(2 * n_hidden, n_hidden))
        self.output_bias = nn.Parameter(torch.zeros(2 * n_hidden))
        with torch.no_grad():
            for weight in torch.split(self.output_weight, n_hidden):
                nn.init.orthogonal_(weight, generator=generator)

    def forward(self, memory: Tensor, x: Tensor) -> Tensor:
        """Outputs ``[…, H]`` for ``[…, M]`` and ``[…, D]``."""
        linear = nn.functional.linear
        hidden = nn.functional.silu(linear(memory, self.memory_weight, self.bias) + linear(x, self.input_weight))
        return nn.functional.glu(linear(hidden, self.output_weight, self.output_bias))


class ArrayReadout:
    """The same function on the CPU, computed by numpy, without gradients.

    Args:
        readout: the module, float32 on the CPU; changes of its parameters are seen.
    """

    def __init__(self, readout: Readout) -> None:
        self._parameters = ParameterArrays(readout.parameters())
        self._size = len(readout.bias)

    def __call__(self, memory: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """Outputs ``[B, H]`` for ``[B, M]`` and ``[B, D]``."""
        memory_weight, input_weight, bias, output_weight, output_bias = self._parameters()
        hidden = product(memory, memory_weight)
        hidden += product(x, input_weight)
        hidden += bias
        halves = hidden * 0.5  # SiLU, u σ(u), is ½ u (1 + tanh ½ u)
        np.tanh(halves, out=hidden)
        hidden += 1.0
        hidden *= halves
        both = product(hidden, output_weight)
        both += output_bias
        outputs, gate = both[:, : self._size], 0.5 * both[:, self._size :]
        np.tanh(gate, out=gate)
        gate += 1.0
        gate *= 0.5
        gate *= outputs
        return gate
