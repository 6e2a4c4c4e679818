"""Recurrent networks: gated recurrent units and long short-term memories, one step or whole sequences at a time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from bbrl_exp.arguments import AT_LEAST_1
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.nn.recurrent_arrays import GruSequences, LstmSequences, gru_step, lstm_step, product

RecurrentKind = Literal["gru", "lstm"]
_N_GATES = {"gru": 3, "lstm": 4}


class RecurrentNet(nn.Module):
    """A layer with memory: from features and a state to an output and the next state.

    ``gru`` (Cho et al. 2014, arXiv:1406.1078, but with the reset gate after the product with U_n, as in cuDNN, which
    has a bias there too), σ the logistic function:

        r = σ(W_r x + b_r + U_r h)    z = σ(W_z x + b_z + U_z h)    n = tanh(W_n x + b_n + r ⊙ (U_n h))
        h' = z ⊙ h + (1 - z) ⊙ n

    ``lstm`` (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000):

        i, f, o = σ(W x + b + U h)    g = tanh(W_g x + b_g + U_g h)    c' = f ⊙ c + i ⊙ g    h' = o ⊙ tanh(c')

    The output is h'. The state is one tensor ``[B, S]``: h, or h and c side by side. A new episode begins with zeros.
    W and each gate's U are orthogonal at first; biases are 0, the forget gate's 1.

    Args:
        n_inputs: number F of features.
        n_hidden: number H of units.
        kind: ``gru`` or ``lstm``.
        generator: source of the initial weights; torch's global one by default.

    Attributes:
        state_size: S, H for ``gru`` and 2 H for ``lstm``.

    Raises:
        ConfigurationError: an unknown kind, or a size below 1.
    """

    def __init__(
        self, n_inputs: int, n_hidden: int, kind: RecurrentKind = "gru", generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if kind not in _N_GATES:
            raise ConfigurationError(f"kind='{kind}': one of {', '.join(_N_GATES)}{did_you_mean(kind, _N_GATES)}")
        AT_LEAST_1.check(n_inputs=n_inputs, n_hidden=n_hidden)
        n_hidden = int(n_hidden)  # torch splits by Python's integers only
        self.n_inputs = n_inputs
        self.n_hidden = n_hidden
        self.kind = kind
        self.state_size = n_hidden if kind == "gru" else 2 * n_hidden
        n_gates = _N_GATES[kind]
        self.input_weight = nn.Parameter(torch.empty(n_gates * n_hidden, n_inputs))
        self.hidden_weight = nn.Parameter(torch.empty(n_gates * n_hidden, n_hidden))
        self.bias = nn.Parameter(torch.zeros(n_gates * n_hidden))
        with torch.no_grad():
            for weight in (self.input_weight, self.hidden_weight):
                for gate in torch.split(weight, n_hidden):
                    nn.init.orthogonal_(gate, generator=generator)
            if kind == "lstm":
                self.bias[n_hidden : 2 * n_hidden] = 1.0

    def initial_state(self, batch_size: int) -> Tensor:
        """The state with which an episode begins: zeros, ``[B, S]``."""
        return self.bias.new_zeros(batch_size, self.state_size)

    def step(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One time step.

        Args:
            features: ``[B, F]``.
            state: ``[B, S]``.

        Returns:
            The output ``[B, H]`` and the next state ``[B, S]``.
        """
        return self._step(nn.functional.linear(features, self.input_weight, self.bias), state)

    def unroll(self, features: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """T time steps of B sequences, with gradients through all of them up to where an episode starts.

        Args:
            features: ``[T, B, F]``.
            state: before the first step, ``[B, S]``.
            starts: bool ``[T, B]``: the state is zeroed before step t where ``starts[t]``.

        Returns:
            The outputs ``[T, B, H]`` and the state after the last step, ``[B, S]``.
        """
        inputs = nn.functional.linear(features, self.input_weight, self.bias)
        if inputs.device.type == "cpu" and inputs.dtype == torch.float32:
            return _Unrolled.apply(inputs, state, self.hidden_weight, starts, self.kind)  # type: ignore[no-any-return, no-untyped-call]
        outputs = []
        keeps = (~starts).to(inputs.dtype).unsqueeze(2)
        for row, keep in zip(inputs, keeps, strict=True):
            output, state = self._step(row, state * keep)
            outputs.append(output)
        return torch.stack(outputs), state

    def _step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        size = self.n_hidden
        if self.kind == "gru":
            products = nn.functional.linear(state, self.hidden_weight)
            switches = (inputs[:, : 2 * size] + products[:, : 2 * size]).sigmoid()
            reset, update = switches[:, :size], switches[:, size:]
            candidate = torch.addcmul(inputs[:, 2 * size :], reset, products[:, 2 * size :]).tanh()
            hidden = torch.lerp(candidate, state, update)
            return hidden, hidden
        gates = inputs + nn.functional.linear(state[:, :size], self.hidden_weight)
        entry, forget, output = gates[:, : 3 * size].sigmoid().chunk(3, dim=1)
        cell = forget * state[:, size:] + entry * gates[:, 3 * size :].tanh()
        hidden = output * cell.tanh()
        return hidden, torch.cat((hidden, cell), dim=1)


class ArrayRecurrentNet:
    """The steps of a :class:`RecurrentNet` on the CPU, computed by numpy, without gradients, for the interaction loop.

    Results agree with the module's up to rounding; changes of its parameters are seen.

    Args:
        network: the module, float32 on the CPU.
    """

    def __init__(self, network: RecurrentNet) -> None:
        self._parameters = (network.input_weight, network.hidden_weight, network.bias)
        self._size = network.n_hidden
        self._is_gru = network.kind == "gru"
        self._addresses: list[int] = []
        self._arrays: list[NDArray[Any]] = []

    def __call__(self, features: NDArray[Any], state: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The output ``[B, H]`` and the next state ``[B, S]`` for float32 ``[B, F]`` and ``[B, S]``."""
        addresses = [parameter.data_ptr() for parameter in self._parameters]
        if addresses != self._addresses:
            self._arrays = [parameter.detach().numpy().T for parameter in self._parameters]
            self._addresses = addresses
        input_weight, hidden_weight, bias = self._arrays
        gates = product(features, input_weight)
        gates += bias
        if self._is_gru:
            hidden, _ = gru_step(gates, state, hidden_weight)
            return hidden, hidden
        hidden, cell, _ = lstm_step(gates, state[:, : self._size], state[:, self._size :], hidden_weight)
        return hidden, np.concatenate((hidden, cell), axis=1)


class _Unrolled(torch.autograd.Function):
    """Whole sequences in numpy."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: Tensor, state: Tensor, hidden_weight: Tensor, starts: Tensor, kind: RecurrentKind
    ) -> tuple[Tensor, Tensor]:
        sequences = (GruSequences if kind == "gru" else LstmSequences)(
            inputs.detach().numpy().copy(),
            state.detach().numpy(),
            hidden_weight.detach().numpy().T.copy(),
            starts.numpy(),
        )
        ctx.sequences = sequences  # type: ignore[attr-defined]
        return torch.from_numpy(sequences.outputs), torch.from_numpy(sequences.state)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_outputs: Tensor, d_state: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        sequences = ctx.sequences  # type: ignore[attr-defined]
        d_inputs, d_first, d_weight = sequences.backward(d_outputs.contiguous().numpy(), d_state.contiguous().numpy())
        return torch.from_numpy(d_inputs), torch.from_numpy(d_first), torch.from_numpy(d_weight.T), None, None
