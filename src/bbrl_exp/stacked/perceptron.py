"""K perceptrons of tanh or ReLU with their gradients, by numpy, a few jobs at a time.

Numpy's products of thin matrices and its tanh take a tenth of the time of torch's on the CPU, and what one job needs
stays in the cache. Each job is computed by itself, so that its numbers do not depend on the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

# Bytes of the widest layer of the jobs that are computed at a time.
_AT_A_TIME = 1 << 18


class Scratch:
    """Memory for layers and their gradients, which is used again: new memory would cost as much as the products.

    Attributes:
        n_uses: forward passes; each overwrites what the one before has kept for its backward pass.
    """

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, tuple[int, ...]], Array] = {}
        self.n_uses = 0

    def array(self, use: str, *shape: int) -> Array:
        """The memory for a use, float32."""
        key = (use, shape)
        if key not in self._arrays:
            self._arrays[key] = np.empty(shape, np.float32)
        return self._arrays[key]


def perceptron(
    inputs: Tensor, parameters: Sequence[Tensor], *, is_tanh: bool, scratch: Scratch | None = None
) -> Tensor:
    """Outputs ``[K, N, n_out]``.

    Args:
        inputs: ``[K, N, n_in]``.
        parameters: weights ``[K, n_out, n_in]`` and biases ``[K, n_out]`` of each layer in turn.
        is_tanh: whether hidden layers are followed by tanh; else by ReLU.
        scratch: memory for hidden layers, until the backward pass; None for new memory.
    """
    return _Perceptron.apply(inputs, is_tanh, scratch or Scratch(), *parameters)  # type: ignore[no-any-return, no-untyped-call]


def affine(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One layer without an activation; arguments as those of :func:`perceptron`."""
    return perceptron(inputs, (weight, bias), is_tanh=False)


class _Perceptron(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, is_tanh: bool, scratch: Scratch, *parameters: Tensor) -> Tensor:
        weights = [weight.numpy() for weight in parameters[::2]]
        biases = [bias[:, None] for bias in parameters[1::2]]
        first = inputs.numpy()
        sizes = [(*first.shape[:2], weight.shape[1]) for weight in weights]
        layers = [scratch.array(f"layer {index}", *size) for index, size in enumerate(sizes[:-1])]
        layers.append(np.empty(sizes[-1], np.float32))
        for part in _parts(layers):
            seen = first[part]
            for index, (weight, bias, layer) in enumerate(zip(weights, biases, layers, strict=True)):
                given = layer[part]
                np.matmul(seen, weight[part].transpose(0, 2, 1), out=given)
                shared = torch.from_numpy(given).add_(bias[part])
                if index < len(weights) - 1:
                    if is_tanh:
                        np.tanh(given, out=given)
                    else:
                        shared.relu_()
                seen = given
        outputs = torch.from_numpy(layers[-1])
        scratch.n_uses += 1
        ctx.is_tanh, ctx.scratch, ctx.use = is_tanh, scratch, scratch.n_uses
        ctx.save_for_backward(inputs, *map(torch.from_numpy, layers[:-1]), *parameters[::2])
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.use == ctx.scratch.n_uses, "another forward pass came before this backward pass"
        saved = [each.numpy() for each in ctx.saved_tensors]
        n_layers = len(saved) // 2
        seen, weights = saved[:n_layers], saved[n_layers:]
        of_outputs = gradients[0].contiguous().numpy()
        of_weights = [np.empty(weight.shape, np.float32) for weight in weights]
        of_biases = [np.empty((len(weight), 1, weight.shape[1]), np.float32) for weight in weights]
        of_inputs = np.empty(seen[0].shape, np.float32) if ctx.needs_input_grad[0] else None
        ones = np.ones((1, of_outputs.shape[1]), np.float32)
        for part in _parts([*seen, of_outputs]):
            gradient = of_outputs[part]
            for index in reversed(range(n_layers)):
                np.matmul(gradient.transpose(0, 2, 1), seen[index][part], out=of_weights[index][part])
                np.matmul(ones, gradient, out=of_biases[index][part])
                if index:
                    outputs = seen[index][part]
                    of_layer = ctx.scratch.array(f"gradient {index}", *outputs.shape)
                    _product(gradient, weights[index][part], of_layer)
                    gradient = _through_activation(of_layer, outputs, ctx.is_tanh)
                elif of_inputs is not None:
                    _product(gradient, weights[0][part], of_inputs[part])
        of_parameters = itertools.chain.from_iterable(zip(of_weights, (each[:, 0] for each in of_biases), strict=True))
        return (
            None if of_inputs is None else torch.from_numpy(of_inputs),
            None,
            None,
            *map(torch.from_numpy, of_parameters),
        )


def _parts(layers: Sequence[Array]) -> Iterator[slice]:
    """The jobs that are computed at a time."""
    n_jobs, n_rows = layers[0].shape[:2]
    width = max(layer.shape[2] for layer in layers)
    n = max(1, _AT_A_TIME // (4 * n_rows * width))
    for first in range(0, n_jobs, n):
        yield slice(first, first + n)


def _product(gradient: Array, weight: Array, out: Array) -> None:
    """g W of each job; for one column a product of numbers, because numpy's matrix product is slow there."""
    (np.multiply if gradient.shape[2] == 1 else np.matmul)(gradient, weight, out=out)


def _through_activation(gradient: Array, outputs: Array, is_tanh: bool) -> Array:
    """Multiplies a gradient by the derivative of tanh or ReLU, whose outputs are given."""
    given, of_outputs = torch.from_numpy(gradient), torch.from_numpy(outputs)
    if is_tanh:
        torch.ops.aten.tanh_backward.grad_input(given, of_outputs, grad_input=given)
    else:
        torch.ops.aten.threshold_backward.grad_input(given, of_outputs, 0.0, grad_input=given)
    return gradient
