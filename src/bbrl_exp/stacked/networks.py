"""The networks of K jobs, computed together: products of stacks of matrices instead of products of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from bbrl_exp.nn.mlp import LARGEST_NUMPY_PRODUCT, Mlp
from bbrl_exp.policies.observation import ObservationFeatures
from bbrl_exp.stacked.perceptron import Scratch, affine, perceptron

Stacked = Callable[[Tensor], Tensor]


class StackedMlp:
    """K multi-layer perceptrons that are built alike.

    Args:
        mlp: the first of them.
        of: gives the stacked view ``[K, *shape]`` of a parameter of the first.
    """

    def __init__(self, mlp: Mlp, of: Stacked) -> None:
        norms = [] if mlp.norms is None else cast("list[nn.LayerNorm]", list(mlp.norms))
        self._layers = [(of(layer.weight), of(layer.bias)) for layer in mlp._linear_layers()]
        self._norms = [(of(norm.weight), of(norm.bias), norm.eps) for norm in norms]
        self._is_tanh, self._is_relu = isinstance(mlp.activation, nn.Tanh), isinstance(mlp.activation, nn.ReLU)
        self._activation = _tanh if self._is_tanh else mlp.activation
        self._scratch = {True: Scratch(), False: Scratch()}
        self._arrays = [
            (weight.detach().numpy().transpose(0, 2, 1), bias.detach().numpy()[:, None])
            for weight, bias in self._layers
        ]
        self._norm_arrays = [
            (weight.detach().numpy()[:, None], bias.detach().numpy()[:, None], epsilon)
            for weight, bias, epsilon in self._norms
        ]

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs ``[K, N, n_out]`` for inputs ``[K, N, n_in]``."""
        if self._norms or not (self._is_tanh or self._is_relu):
            return self.output(self.hidden(inputs))
        parameters = [parameter for layer in self._layers for parameter in layer]
        # What is computed without gradients may come between a forward and its backward pass.
        scratch = self._scratch[torch.is_grad_enabled()]
        return perceptron(inputs, parameters, is_tanh=self._is_tanh, scratch=scratch)

    def hidden(self, inputs: Tensor) -> Tensor:
        """What the last hidden layers give, ``[K, N, n_hidden]``; the inputs if there is none."""
        for index, (weight, bias) in enumerate(self._layers[:-1]):
            inputs = affine(inputs, weight, bias)
            if self._norms:
                scale, shift, epsilon = self._norms[index]
                inputs = layer_norm(inputs, inputs.shape[-1:], eps=epsilon)
                inputs = torch.addcmul(shift[:, None], inputs, scale[:, None])
            inputs = self._activation(inputs)
        return inputs

    def output(self, hidden: Tensor) -> Tensor:
        """Outputs ``[K, N, n_out]`` for what :meth:`hidden` gave."""
        weight, bias = self._layers[-1]
        return affine(hidden, weight, bias)

    def on_arrays(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The same for float32 arrays ``[K, B, n_in]``, without gradients, as a job alone computes its own."""
        *hidden, last = self._arrays
        for index, layer in enumerate(hidden):
            inputs = _affine(inputs, *layer)
            if self._norm_arrays:
                inputs = _normalized(inputs, *self._norm_arrays[index])
            if self._is_tanh:
                np.tanh(inputs, out=inputs)
            elif self._is_relu:
                np.maximum(inputs, 0.0, out=inputs)
            else:
                with torch.no_grad():
                    inputs = self._activation(torch.from_numpy(inputs)).numpy()
        return _affine(inputs, *last)


def stacked_features(features: ObservationFeatures, observations: Sequence[Tensor]) -> Tensor:
    """Features float32 ``[K, N, F]`` of observations, one tensor ``[K, N, *shape]`` per leaf.

    Args:
        features: of the first job; it has no parameters.
        observations: of all jobs.
    """
    if features.is_one_vector:
        return observations[0]
    n_jobs, n_rows = observations[0].shape[:2]
    flat: Tensor = features([leaf.flatten(0, 1) for leaf in observations])
    return flat.view(n_jobs, n_rows, -1)


def _affine(inputs: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    if inputs.shape[1] * weight[0].size > LARGEST_NUMPY_PRODUCT:
        tensors = (torch.from_numpy(array) for array in (bias, inputs, weight))
        return torch.baddbmm(*tensors).numpy()
    outputs: NDArray[Any] = np.matmul(inputs, weight)
    outputs += bias
    return outputs


def _normalized(inputs: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], epsilon: float) -> NDArray[Any]:
    outputs: NDArray[Any] = inputs - inputs.mean(axis=2, keepdims=True)
    variance = np.square(outputs).mean(axis=2, keepdims=True)
    outputs *= weight / np.sqrt(variance + epsilon)
    outputs += bias
    return outputs


class _Tanh(torch.autograd.Function):
    """Numpy's tanh takes an eighth of the time of torch's on the CPU."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        outputs = torch.from_numpy(np.tanh(inputs.numpy()))
        ctx.save_for_backward(outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        outputs = ctx.saved_tensors[0].numpy()
        found = outputs * outputs
        np.subtract(1.0, found, out=found)
        found *= gradients[0].numpy()
        return torch.from_numpy(found)


def _tanh(inputs: Tensor) -> Tensor:
    return _Tanh.apply(inputs)  # type: ignore[no-any-return, no-untyped-call]
