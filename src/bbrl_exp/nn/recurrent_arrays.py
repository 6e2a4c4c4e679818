"""Gated recurrent cells over whole sequences on the CPU, with their gradients, in numpy.

A step works on a few rows, so that the cost of a call dominates: numpy's calls cost a fraction of torch's, and nothing
needs to be recorded for autograd, because backpropagation through time is written out. All that does not depend on the
step before is computed for the whole sequence at once; a step forward is then one matrix product and a dozen small
operations, a step backward one product and five.

Arrays are float32: gates ``[…, G H]`` (G gates of H units), hidden values ``[B, H]``, weights ``[H, G H]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bbrl_exp.nn.mlp import LARGEST_NUMPY_PRODUCT

Array = NDArray[Any]

_MOST_ROWS_IN_BLOCKS, _NARROWEST_BLOCK = 16, 16


def gru_step(gates: Array, hidden: Array, weight: Array) -> tuple[Array, Array]:
    """One step; ``gates`` holds the inputs' part and is overwritten by the activations of reset, update, candidate.

    Returns:
        The next hidden values and the candidate's product before the reset gate, both ``[B, H]``.
    """
    size = hidden.shape[1]
    products = product(hidden, weight)
    switches, candidate = gates[:, : 2 * size], gates[:, 2 * size :]
    switches += products[:, : 2 * size]
    _sigmoid(switches)
    candidate += switches[:, :size] * products[:, 2 * size :]
    np.tanh(candidate, out=candidate)
    following: Array = hidden - candidate
    following *= switches[:, size:]
    following += candidate
    return following, products[:, 2 * size :]


def lstm_step(gates: Array, hidden: Array, cell: Array, weight: Array) -> tuple[Array, Array, Array]:
    """One step; ``gates`` holds the inputs' part and is overwritten by the activations of input, forget, output, cell.

    Returns:
        The next hidden values, the next cell values and the tanh of the latter, all ``[B, H]``.
    """
    size = hidden.shape[1]
    gates += product(hidden, weight)
    switches, candidate = gates[:, : 3 * size], gates[:, 3 * size :]
    _sigmoid(switches)
    np.tanh(candidate, out=candidate)
    following: Array = switches[:, size : 2 * size] * cell
    following += switches[:, :size] * candidate
    squashed = np.tanh(following)
    return squashed * switches[:, 2 * size :], following, squashed


class GruSequences:
    """A gated recurrent unit over sequences.

    Args:
        gates: the inputs' part, ``[T, B, 3 H]``; overwritten.
        state: the first state, ``[B, H]``.
        weight: ``[H, 3 H]``.
        starts: where the state is zeroed before the step, bool ``[T, B]``.

    Attributes:
        outputs: the hidden values after each step, ``[T, B, H]``.
    """

    def __init__(self, gates: Array, state: Array, weight: Array, starts: Array) -> None:
        n_steps, batch_size, _ = gates.shape
        self._gates, self._weight, self._starts = gates, weight, starts
        self._has_start: list[bool] = np.asarray(starts.any(axis=1)).tolist()
        self._before = np.empty((n_steps, batch_size, state.shape[1]), np.float32)
        self._products = np.empty_like(self._before)
        self.outputs = np.empty_like(self._before)
        for t in range(n_steps):
            before = self._before[t]
            before[...] = state
            if self._has_start[t]:
                before[starts[t]] = 0.0
            state, self._products[t] = gru_step(gates[t], before, weight)
            self.outputs[t] = state

    def backward(self, d_outputs: Array) -> tuple[Array, Array, Array]:
        """Gradients of ``gates``, ``state`` and ``weight``, for that of the outputs, ``[T, B, H]``."""
        size = self._before.shape[2]
        reset, update, candidate = (self._gates[..., k * size : (k + 1) * size] for k in range(3))
        # What the gradient of a step's hidden values is multiplied by on its way to each gate.
        to_candidate = (1.0 - update) * (1.0 - candidate * candidate)
        factors = np.empty((*self._gates.shape[:2], 3, size), np.float32)
        np.multiply(to_candidate * self._products, reset * (1.0 - reset), out=factors[:, :, 0])
        np.multiply(self._before - candidate, update * (1.0 - update), out=factors[:, :, 1])
        np.multiply(to_candidate, reset, out=factors[:, :, 2])
        d_products = np.empty_like(self._gates)
        d_hidden = np.empty_like(self._before)
        back = self._weight.T
        d_next: Array = np.zeros_like(self._before[0])
        for t in range(len(factors) - 1, -1, -1):
            here = d_hidden[t]
            np.add(d_outputs[t], d_next, out=here)
            d_gates = d_products[t]
            np.multiply(factors[t], here[:, None, :], out=d_gates.reshape(factors[t].shape))
            d_next = product(d_gates, back)
            d_next += here * update[t]
            if self._has_start[t]:
                d_next[self._starts[t]] = 0.0
        d_weight = _weight_gradient(self._before, d_products)
        d_products[..., 2 * size :] = d_hidden * to_candidate
        return d_products, d_next, d_weight


class LstmSequences:
    """A long short-term memory over sequences.

    Args:
        gates: the inputs' part, ``[T, B, 4 H]``; overwritten.
        state: the first hidden and cell values side by side, ``[B, 2 H]``.
        weight: ``[H, 4 H]``.
        starts: where the state is zeroed before the step, bool ``[T, B]``.

    Attributes:
        outputs: the hidden values after each step, ``[T, B, H]``.
        cells: the cell values after each step, ``[T, B, H]``.
    """

    def __init__(self, gates: Array, state: Array, weight: Array, starts: Array) -> None:
        n_steps, batch_size, _ = gates.shape
        size = state.shape[1] // 2
        self._gates, self._weight, self._starts = gates, weight, starts
        self._has_start: list[bool] = np.asarray(starts.any(axis=1)).tolist()
        self._hidden_before = np.empty((n_steps, batch_size, size), np.float32)
        self._cell_before = np.empty_like(self._hidden_before)
        self._squashed = np.empty_like(self._hidden_before)
        self.outputs = np.empty_like(self._hidden_before)
        self.cells = np.empty_like(self._hidden_before)
        hidden, cell = state[:, :size], state[:, size:]
        for t in range(n_steps):
            hidden_before, cell_before = self._hidden_before[t], self._cell_before[t]
            hidden_before[...] = hidden
            cell_before[...] = cell
            if self._has_start[t]:
                hidden_before[starts[t]] = 0.0
                cell_before[starts[t]] = 0.0
            hidden, cell, self._squashed[t] = lstm_step(gates[t], hidden_before, cell_before, weight)
            self.outputs[t] = hidden
            self.cells[t] = cell

    def backward(self, d_outputs: Array, d_cells: Array | None) -> tuple[Array, Array, Array]:
        """Gradients of ``gates``, ``state`` and ``weight``.

        Args:
            d_outputs: gradient of the outputs, ``[T, B, H]``.
            d_cells: gradient of the cell values, ``[T, B, H]``; None for zeros.
        """
        size = self._cell_before.shape[2]
        entry, forget, output, candidate = (self._gates[..., k * size : (k + 1) * size] for k in range(4))
        hidden_to_output = self._squashed * output * (1.0 - output)
        hidden_to_cell = output * (1.0 - self._squashed * self._squashed)
        d_gates = np.empty_like(self._gates)
        back = self._weight.T
        # The gradient of a step's cell values is multiplied by these on its way to the gates; the output's is apart.
        factors = np.zeros((*self._gates.shape[:2], 4, size), np.float32)
        np.multiply(candidate, entry * (1.0 - entry), out=factors[:, :, 0])
        np.multiply(self._cell_before, forget * (1.0 - forget), out=factors[:, :, 1])
        np.multiply(entry, 1.0 - candidate * candidate, out=factors[:, :, 3])
        d_hidden, d_cell = np.zeros_like(self._cell_before[0]), np.zeros_like(self._cell_before[0])
        for t in range(len(factors) - 1, -1, -1):
            d_hidden = d_hidden + d_outputs[t]
            d_cell += d_hidden * hidden_to_cell[t]
            if d_cells is not None:
                d_cell += d_cells[t]
            here = d_gates[t]
            np.multiply(factors[t], d_cell[:, None, :], out=here.reshape(factors[t].shape))
            np.multiply(d_hidden, hidden_to_output[t], out=here[:, 2 * size : 3 * size])
            d_hidden = product(here, back)
            d_cell *= forget[t]
            if self._has_start[t]:
                d_hidden[self._starts[t]] = 0.0
                d_cell[self._starts[t]] = 0.0
        d_weight = _weight_gradient(self._hidden_before, d_gates)
        return d_gates, np.concatenate((d_hidden, d_cell), axis=1), d_weight


def product(rows: Array, weight: Array) -> Array:
    """``rows @ weight``, in parts or by torch where numpy's BLAS might start threads.

    Of few rows numpy's product takes half the time of torch's, also if it is made of blocks of columns.
    """
    if len(rows) * weight.size <= LARGEST_NUMPY_PRODUCT:
        return np.asarray(rows @ weight)
    if len(rows) > _MOST_ROWS_IN_BLOCKS or rows.size * _NARROWEST_BLOCK > LARGEST_NUMPY_PRODUCT:
        writable = np.require(rows, requirements="W")
        return torch.mm(torch.from_numpy(writable), torch.from_numpy(weight)).numpy()
    products = np.empty((len(rows), weight.shape[1]), np.float32)
    n_columns = LARGEST_NUMPY_PRODUCT // rows.size
    for first in range(0, weight.shape[1], n_columns):
        columns = slice(first, first + n_columns)
        np.matmul(rows, weight[:, columns], out=products[:, columns])
    return products


def _sigmoid(values: Array) -> None:
    """In place, as ½ (1 + tanh(½ x)), which never overflows."""
    values *= 0.5
    np.tanh(values, out=values)
    values *= 0.5
    values += 0.5


def _weight_gradient(hidden: Array, d_gates: Array) -> Array:
    return product(hidden.reshape(-1, hidden.shape[2]).T, d_gates.reshape(-1, d_gates.shape[2]))
