"""A stack of the last inputs: the baseline that every memory has to beat."""

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
from bbrl_exp.nn.recurrent_arrays import product

_AT_LEAST_2 = Range("at least 2", lambda value: value >= 2, is_whole=True)


class ObservationStack(Cell):
    """A layer on the last k inputs, side by side, the oldest first (the frames of Mnih et al., 2015, for vectors):

        y = tanh(W [x_{t−k+1} … x_t] + b), or the stack itself

    Nothing older than k − 1 steps can be remembered. Inputs before the start of the episode are zeros. The state is the
    last k − 1 inputs, ``[B, (k − 1) D]``; the gradient of :meth:`unroll` reaches the state it begins with.
    W is orthogonal at first, with a gain of √2, as a perceptron's hidden layers are; b is 0.

    Args:
        n_inputs: number D of numbers of an input.
        n_hidden: number H of numbers of an output; None for the stack itself, k D numbers.
        length: number k of inputs in the stack.
        generator: source of the initial weights; torch's global one by default.

    Attributes:
        n_hidden: H.
        state_size: S = (k − 1) D.

    Raises:
        ConfigurationError: a size below 1, or a length below 2.
    """

    def __init__(
        self, n_inputs: int, n_hidden: int | None = 64, length: int = 4, generator: torch.Generator | None = None
    ) -> None:
        _AT_LEAST_2.check(length=length)
        super().__init__(n_inputs, length * n_inputs if n_hidden is None else n_hidden, (length - 1) * n_inputs)
        self.length = int(length)
        self.weight = self.bias = None
        if n_hidden is not None:
            self.weight = nn.Parameter(torch.empty(self.n_hidden, self.length * self.n_inputs))
            self.bias = nn.Parameter(torch.zeros(self.n_hidden))
            nn.init.orthogonal_(self.weight, math.sqrt(2), generator=generator)
        self.register_buffer("_zero", torch.zeros(()), persistent=False)  # knows dtype and device

    def initial_state(self, batch_size: int) -> Tensor:
        """The state with which an episode begins: zeros, ``[B, S]``."""
        return self._zero.new_zeros(batch_size, self.state_size)  # type: ignore[operator]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        stack = torch.cat((state, x), dim=1)
        return self._output(stack), stack[:, self.n_inputs :]

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        n_steps, length = len(x), self.length
        rows = torch.cat((state.view(-1, length - 1, self.n_inputs).transpose(0, 1), x))
        stack = torch.stack([rows[k : k + n_steps] for k in range(length)], dim=2)  # [T, B, k, D]
        times = torch.arange(n_steps, device=x.device).unsqueeze(1)
        first = torch.where(starts, times, -length).cummax(0).values  # where the episode started
        shown = times.unsqueeze(2) - torch.arange(length - 1, -1, -1, device=x.device)
        stack = stack.masked_fill((shown < first.unsqueeze(2)).unsqueeze(3), 0.0).flatten(2)
        return self._output(stack), stack[..., self.n_inputs :]

    def on_arrays(self) -> ArrayObservationStack:
        return ArrayObservationStack(self)

    def _output(self, stack: Tensor) -> Tensor:
        return stack if self.weight is None else nn.functional.linear(stack, self.weight, self.bias).tanh()


class ArrayObservationStack:
    """The steps of an :class:`ObservationStack` on the CPU, computed by numpy, without gradients.

    Args:
        cell: the module, float32 on the CPU; changes of its parameters are seen.
    """

    def __init__(self, cell: ObservationStack) -> None:
        self._parameters = ParameterArrays(cell.parameters())
        self._n_inputs = cell.n_inputs

    def __call__(self, x: NDArray[Any], state: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The output ``[B, H]`` and the next state ``[B, S]`` for float32 ``[B, D]`` and ``[B, S]``."""
        stack = np.concatenate((state, x), axis=1)
        following = stack[:, self._n_inputs :]
        parameters = self._parameters()
        if not parameters:
            return stack, following
        weight, bias = parameters
        outputs = product(stack, weight)
        outputs += bias
        return np.tanh(outputs, out=outputs), following
