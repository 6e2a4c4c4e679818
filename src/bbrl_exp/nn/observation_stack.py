"""A stack of the last inputs: the baseline that every memory has to beat."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.arguments import AT_LEAST_1, Range
from bbrl_exp.nn.parameter_arrays import ParameterArrays
from bbrl_exp.nn.recurrent_arrays import product

_AT_LEAST_2 = Range("at least 2", lambda value: value >= 2, is_whole=True)


class ObservationStack(nn.Module):
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
        super().__init__()
        AT_LEAST_1.check(n_inputs=n_inputs, n_hidden=n_hidden)
        _AT_LEAST_2.check(length=length)
        self.n_inputs = int(n_inputs)
        self.length = int(length)
        self.state_size = (self.length - 1) * self.n_inputs
        self.n_hidden = self.length * self.n_inputs if n_hidden is None else int(n_hidden)
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
        """One time step: the output ``[B, H]`` and the next state ``[B, S]``, of ``[B, D]`` and ``[B, S]``."""
        stack = torch.cat((state, x), dim=1)
        return self._output(stack), stack[:, self.n_inputs :]

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """T time steps of B sequences, with gradients through all of them up to where an episode starts.

        Args:
            x: ``[T, B, D]``.
            state: before the first step, ``[B, S]``.
            starts: bool ``[T, B]``: the state is zeroed before step t where ``starts[t]``.

        Returns:
            The outputs ``[T, B, H]`` and the states after each step, ``[T, B, S]``.
        """
        n_steps, length = len(x), self.length
        rows = torch.cat((state.view(-1, length - 1, self.n_inputs).transpose(0, 1), x))
        stack = torch.stack([rows[k : k + n_steps] for k in range(length)], dim=2)  # [T, B, k, D]
        ages = torch.arange(length - 1, -1, -1, device=x.device)
        is_over = ages > steps_since_start(starts, length).unsqueeze(2)
        stack = stack.masked_fill(is_over.unsqueeze(3), 0.0).flatten(2)
        return self._output(stack), stack[..., self.n_inputs :]

    def on_arrays(self) -> ArrayObservationStack:
        """:meth:`step` on arrays, for the interaction loop."""
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


def steps_since_start(starts: Tensor, before: int) -> Tensor:
    """The number of steps since an episode started, 0 where it does: int64 ``[T, B]`` of bool ``[T, B]``.

    Args:
        starts: where.
        before: what to count from where none has started: so many steps before the first row.
    """
    times = torch.arange(len(starts), device=starts.device).unsqueeze(1)
    return times - torch.where(starts, times, -before).cummax(0).values
