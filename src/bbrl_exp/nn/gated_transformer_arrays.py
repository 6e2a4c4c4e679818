"""The steps of a gated transformer on the CPU, computed by numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.nn.parameter_arrays import ParameterArrays
from bbrl_exp.nn.recurrent_arrays import product

if TYPE_CHECKING:
    from bbrl_exp.nn.gated_transformer import GTrXL

Array = NDArray[Any]


class ArrayGTrXL:
    """The steps of a :class:`GTrXL` without gradients, for the interaction loop.

    For one row, keys and values of the stored rows need not be computed: q · (K s) = (Kᵀ q) · s for a stored row s, and
    the mean of V s is V times the mean of s.

    Args:
        cell: the module, float32 on the CPU; changes of its parameters are seen.
    """

    def __init__(self, cell: GTrXL) -> None:
        self._embedding = ParameterArrays((cell.weight, cell.bias))
        self._layers = [ParameterArrays(layer.parameters()) for layer in cell.layers]
        self._window, self._n_heads = cell.window, cell.n_heads

    def __call__(self, x: Array, state: Array) -> tuple[Array, Array]:
        """The output ``[B, H]`` and the next state ``[B, S]`` for float32 ``[B, D]`` and ``[B, S]``."""
        weight, bias = self._embedding()
        rows = product(x, weight)
        rows += bias
        batch_size, size = rows.shape
        n_layers, window = len(self._layers), self._window
        row_size = n_layers * size
        # The stored rows, the new one, and how many of the last W are the episode's: the next state is its end.
        known = np.empty((batch_size, state.shape[1] + row_size), np.float32)
        known[:, : window * row_size] = state[:, :-1]
        known[:, -1] = np.minimum(state[:, -1] + 1.0, window)
        seen = known[:, :-1].reshape(batch_size, window + 1, n_layers, size)
        is_hidden = np.arange(window + 1) < window - state[:, -1:]
        for index, parameters in enumerate(self._layers):
            rows = self._layer(parameters(), rows, seen[:, :, index], is_hidden)
        return rows, known[:, row_size:]

    def _layer(self, parameters: list[Array], rows: Array, seen: Array, is_hidden: Array) -> Array:
        """The rows ``[B, H]`` after a layer; what it sees of them becomes the last of ``seen``, ``[B, W + 1, H]``."""
        query_weight, query_bias, key_weight, value_weight, positions, distance_bias, *output = parameters[:8]
        perceptron, attention_gate, perceptron_gate = parameters[8:12], parameters[12:16], parameters[16:20]
        batch_size, size = rows.shape
        n_heads, head_size = self._n_heads, size // self._n_heads
        normal = _normalized(rows)
        seen[:, -1] = normal
        queries = product(normal, query_weight)
        queries += query_bias
        queries *= 1 / math.sqrt(head_size)
        by_head = queries.reshape(batch_size, n_heads, head_size).transpose(1, 0, 2)
        of_seen = np.matmul(by_head, key_weight.reshape(size, n_heads, head_size).transpose(1, 2, 0))
        scores = np.matmul(of_seen.transpose(1, 0, 2), seen.transpose(0, 2, 1))  # [B, heads, W + 1]
        of_positions = np.matmul(by_head, positions.reshape(n_heads, head_size, -1))
        scores += of_positions.transpose(1, 0, 2)
        scores += distance_bias
        np.copyto(scores, -np.inf, where=is_hidden[:, None])
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=2, keepdims=True)
        means = np.matmul(scores, seen).transpose(1, 0, 2)  # [heads, B, H]
        values = np.matmul(means, value_weight.reshape(size, n_heads, head_size).transpose(1, 0, 2))
        attended = product(values.transpose(1, 0, 2).reshape(batch_size, size), output[0])
        attended += output[1]
        rows = _gated(rows, np.maximum(attended, 0.0, out=attended), *attention_gate)
        first_weight, first_bias, second_weight, second_bias = perceptron
        hidden = product(_normalized(rows), first_weight)
        hidden += first_bias
        hidden = product(np.maximum(hidden, 0.0, out=hidden), second_weight)
        hidden += second_bias
        return _gated(rows, np.maximum(hidden, 0.0, out=hidden), *perceptron_gate)


def _gated(old: Array, new: Array, new_weight: Array, old_weight: Array, candidate_weight: Array, bias: Array) -> Array:
    size = old.shape[1]
    from_new, switches = product(new, new_weight), product(old, old_weight)
    switches += from_new[:, : 2 * size]
    switches[:, size:] -= bias
    switches *= 0.5  # σ(u) is ½ (1 + tanh ½ u)
    np.tanh(switches, out=switches)
    switches += 1.0
    switches *= 0.5
    candidate = product(switches[:, :size] * old, candidate_weight)
    candidate += from_new[:, 2 * size :]
    np.tanh(candidate, out=candidate)
    candidate -= old
    candidate *= switches[:, size:]
    candidate += old
    return candidate


def _normalized(rows: Array) -> Array:
    size = rows.shape[1]
    normal: Array = rows - np.add.reduce(rows, axis=1, keepdims=True) / size
    variance = np.add.reduce(normal * normal, axis=1, keepdims=True) / size
    normal /= np.sqrt(variance + 1e-5)
    return normal
