"""Gated recurrent units and long short-term memories, one step or whole sequences at a time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from bbrl_exp.nn.cell import ArrayStep, Cell
from bbrl_exp.nn.recurrent_arrays import GruSequences, LstmSequences, gru_step, lstm_step, product

Array = NDArray[Any]


class _Gated(Cell):
    """What the two have in common: gates that see the input by W and the hidden values by U.

    W and each gate's U are orthogonal at first; biases are 0.
    """

    def __init__(
        self, n_inputs: int, n_hidden: int, n_gates: int, state_size: int, generator: torch.Generator | None
    ) -> None:
        super().__init__(n_inputs, n_hidden, state_size)
        self.input_weight = nn.Parameter(torch.empty(n_gates * self.n_hidden, self.n_inputs))
        self.hidden_weight = nn.Parameter(torch.empty(n_gates * self.n_hidden, self.n_hidden))
        self.bias = nn.Parameter(torch.zeros(n_gates * self.n_hidden))
        with torch.no_grad():
            for weight in (self.input_weight, self.hidden_weight):
                for gate in torch.split(weight, self.n_hidden):
                    nn.init.orthogonal_(gate, generator=generator)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self._step(nn.functional.linear(x, self.input_weight, self.bias), state)

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        inputs = nn.functional.linear(x, self.input_weight, self.bias)
        if inputs.device.type == "cpu" and inputs.dtype == torch.float32:
            return self._unrolled_on_arrays(inputs, state, starts)
        outputs, states = [], []
        for row, start in zip(inputs, starts.unsqueeze(2), strict=True):
            output, state = self._step(row, state.masked_fill(start, 0.0))
            outputs.append(output)
            states.append(state)
        return torch.stack(outputs), torch.stack(states)

    def on_arrays(self) -> ArrayStep:
        return _OnArrays(self)

    @abstractmethod
    def _step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A step, from the inputs' part of the gates ``[B, G H]``."""

    @abstractmethod
    def _unrolled_on_arrays(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Whole sequences by numpy, from the inputs' part of the gates ``[T, B, G H]``."""

    @abstractmethod
    def step_on_arrays(self, gates: Array, state: Array, hidden_weight: Array) -> tuple[Array, Array]:
        """A step by numpy, from the inputs' part of the gates ``[B, G H]``, which is overwritten."""


class GRU(_Gated):
    """A gated recurrent unit.

    Cho et al. 2014, arXiv:1406.1078, but with the reset gate after the product with U_n, as in cuDNN, which has a bias
    there too. With σ the logistic function:

        r = σ(W_r x + b_r + U_r h)    z = σ(W_z x + b_z + U_z h)    n = tanh(W_n x + b_n + r ⊙ (U_n h))
        h' = z ⊙ h + (1 - z) ⊙ n

    The output and the state are h'. W and each gate's U are orthogonal at first; biases are 0.

    Args:
        n_inputs: number D of inputs.
        n_hidden: units, number H of outputs.
        generator: source of the initial weights; torch's global one by default.

    Raises:
        ConfigurationError: a size below 1.
    """

    def __init__(self, n_inputs: int, n_hidden: int = 64, generator: torch.Generator | None = None) -> None:
        super().__init__(n_inputs, n_hidden, 3, n_hidden, generator)

    def bounded_units(self, state: Tensor) -> Tensor:
        """The state itself, a mean of values of tanh."""
        return state

    def _step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        size = self.n_hidden
        products = nn.functional.linear(state, self.hidden_weight)
        switches = (inputs[:, : 2 * size] + products[:, : 2 * size]).sigmoid()
        reset, update = switches[:, :size], switches[:, size:]
        candidate = torch.addcmul(inputs[:, 2 * size :], reset, products[:, 2 * size :]).tanh()
        hidden = torch.lerp(candidate, state, update)
        return hidden, hidden

    def _unrolled_on_arrays(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        outputs: Tensor = _UnrolledGru.apply(inputs, state, self.hidden_weight, starts)  # type: ignore[no-untyped-call]
        return outputs, outputs

    def step_on_arrays(self, gates: Array, state: Array, hidden_weight: Array) -> tuple[Array, Array]:
        hidden, _ = gru_step(gates, state, hidden_weight)
        return hidden, hidden


class LSTM(_Gated):
    """A long short-term memory.

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000. With σ the logistic function:

        i, f, o = σ(W x + b + U h)    g = tanh(W_g x + b_g + U_g h)    c' = f ⊙ c + i ⊙ g    h' = o ⊙ tanh(c')

    The output is h', the state h' and c' side by side. W and each gate's U are orthogonal at first; biases are 0, the
    forget gate's 1.

    Args:
        n_inputs: number D of inputs.
        n_hidden: units, number H of outputs; the state has twice as many numbers.
        generator: source of the initial weights; torch's global one by default.

    Raises:
        ConfigurationError: a size below 1.
    """

    def __init__(self, n_inputs: int, n_hidden: int = 64, generator: torch.Generator | None = None) -> None:
        super().__init__(n_inputs, n_hidden, 4, 2 * n_hidden, generator)
        with torch.no_grad():
            self.bias[self.n_hidden : 2 * self.n_hidden] = 1.0

    def bounded_units(self, state: Tensor) -> Tensor:
        """tanh(c), ``[…, H]``."""
        return state[..., self.n_hidden :].tanh()

    def _step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        size = self.n_hidden
        gates = inputs + nn.functional.linear(state[:, :size], self.hidden_weight)
        entry, forget, output = gates[:, : 3 * size].sigmoid().chunk(3, dim=1)
        cell = forget * state[:, size:] + entry * gates[:, 3 * size :].tanh()
        hidden = output * cell.tanh()
        return hidden, torch.cat((hidden, cell), dim=1)

    def _unrolled_on_arrays(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        outputs, cells = _UnrolledLstm.apply(inputs, state, self.hidden_weight, starts)  # type: ignore[no-untyped-call]
        return outputs, torch.cat((outputs, cells), dim=2)

    def step_on_arrays(self, gates: Array, state: Array, hidden_weight: Array) -> tuple[Array, Array]:
        hidden, cell, _ = lstm_step(gates, state[:, : self.n_hidden], state[:, self.n_hidden :], hidden_weight)
        return hidden, np.concatenate((hidden, cell), axis=1)


class _OnArrays:
    """The steps of a cell on the CPU, computed by numpy; changes of its parameters are seen."""

    def __init__(self, cell: _Gated) -> None:
        self._parameters = (cell.input_weight, cell.hidden_weight, cell.bias)
        self._step = cell.step_on_arrays
        self._addresses: list[int] = []
        self._arrays: list[Array] = []

    def __call__(self, x: Array, state: Array) -> tuple[Array, Array]:
        addresses = [parameter.data_ptr() for parameter in self._parameters]
        if addresses != self._addresses:
            self._arrays = [parameter.detach().numpy().T for parameter in self._parameters]
            self._addresses = addresses
        input_weight, hidden_weight, bias = self._arrays
        gates = product(x, input_weight)
        gates += bias
        return self._step(gates, state, hidden_weight)


class _UnrolledGru(torch.autograd.Function):
    """Whole sequences in numpy."""

    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, state: Tensor, hidden_weight: Tensor, starts: Tensor) -> Tensor:
        sequences = GruSequences(*_arrays(inputs, state, hidden_weight, starts))
        ctx.sequences = sequences  # type: ignore[attr-defined]
        return torch.from_numpy(sequences.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        sequences: GruSequences = ctx.sequences  # type: ignore[attr-defined]
        return _tensors(*sequences.backward(d_outputs.contiguous().numpy()))


class _UnrolledLstm(torch.autograd.Function):
    """Whole sequences in numpy; gives the hidden and the cell values."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: Tensor, state: Tensor, hidden_weight: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor]:
        sequences = LstmSequences(*_arrays(inputs, state, hidden_weight, starts))
        ctx.sequences = sequences  # type: ignore[attr-defined]
        ctx.set_materialize_grads(False)
        return torch.from_numpy(sequences.outputs), torch.from_numpy(sequences.cells)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, d_outputs: Tensor | None, d_cells: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        sequences: LstmSequences = ctx.sequences  # type: ignore[attr-defined]
        if d_outputs is None:
            d_outputs = torch.zeros(sequences.outputs.shape)
        cells = None if d_cells is None else d_cells.contiguous().numpy()
        return _tensors(*sequences.backward(d_outputs.contiguous().numpy(), cells))


def _arrays(inputs: Tensor, state: Tensor, hidden_weight: Tensor, starts: Tensor) -> tuple[Array, Array, Array, Array]:
    hidden = hidden_weight.detach().numpy().T.copy()
    return inputs.detach().numpy().copy(), state.detach().numpy(), hidden, starts.numpy()


def _tensors(d_inputs: Array, d_first: Array, d_weight: Array) -> tuple[Tensor, Tensor, Tensor, None]:
    return torch.from_numpy(d_inputs), torch.from_numpy(d_first), torch.from_numpy(d_weight.T), None
