"""Multi-layer perceptrons, as modules and, for the interaction loop, on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.module import (
    _global_backward_hooks,
    _global_backward_pre_hooks,
    _global_forward_hooks,
    _global_forward_pre_hooks,
)

from bbrl_exp.arguments import check_sizes
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.memory import check_parameters

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


# Beyond so many multiplications numpy's BLAS may start its own threads, which nobody here controls; torch's are set.
LARGEST_NUMPY_PRODUCT = 2**18


class Mlp(nn.Module):
    """A multi-layer perceptron with orthogonal initial weights and zero biases.

    Args:
        sizes: number of inputs, of units of each hidden layer, and of outputs.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``, after every hidden layer.
        output_gain: gain of the last layer's initial weights; the hidden ones have √2.
        layer_norm: whether the inputs of every activation are normalised over the layer (Ba et al., 2016).
        generator: source of the initial weights; torch's global one by default.

    Raises:
        ConfigurationError: an unknown activation, or a size below 1.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        output_gain: float = 1.0,
        layer_norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise ConfigurationError(
                f"activation='{activation}': one of {allowed}{did_you_mean(activation, ACTIVATIONS)}"
            )
        check_sizes(sizes=sizes)
        if len(sizes) < 2:
            raise ConfigurationError(f"sizes={list(sizes)}: must have at least an input and an output size")
        n_parameters = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        check_parameters(n_parameters, f"hidden_sizes={list(sizes[1:-1])}")
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[1:-1]) if layer_norm else None
        self.activation = ACTIVATIONS[activation]()
        for layer in self._linear_layers():
            gain = output_gain if layer is self.layers[-1] else math.sqrt(2)
            nn.init.orthogonal_(layer.weight, gain, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs ``[…, n_out]`` for inputs ``[…, n_in]``, both floating point."""
        return self.output(self.hidden(inputs))

    def hidden(self, inputs: Tensor) -> Tensor:
        """What the last hidden layer gives, ``[…, n_hidden]``; the inputs if there is none."""
        modules = self._modules  # looking up a module as an attribute takes as long as a small activation
        activation, norms, layers = modules["activation"], modules.get("norms"), self._layers()
        if norms is None:
            for layer in layers[:-1]:
                inputs = _called(activation, _called(layer, inputs))
        else:
            for layer, norm in zip(layers, norms._modules.values(), strict=False):
                inputs = _called(activation, _called(norm, _called(layer, inputs)))
        return inputs

    def output(self, hidden: Tensor) -> Tensor:
        """Outputs ``[…, n_out]`` for what :meth:`hidden` gave."""
        return _called(self._layers()[-1], hidden)

    def _layers(self) -> list[nn.Module | None]:
        return list(self._modules["layers"]._modules.values())  # type: ignore[union-attr]

    def _linear_layers(self) -> list[nn.Linear]:
        return cast("list[nn.Linear]", list(self.layers))


def _called(module: nn.Module | None, inputs: Tensor) -> Tensor:
    """``module(inputs)``, without the cost of the call, which is that of a small layer, where there are no hooks."""
    assert module is not None
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return module(inputs)  # type: ignore[no-any-return]
    if _global_forward_hooks or _global_forward_pre_hooks or _global_backward_hooks or _global_backward_pre_hooks:
        return module(inputs)  # type: ignore[no-any-return]
    return module.forward(inputs)  # type: ignore[no-any-return]


class ArrayMlp:
    """The same function as an :class:`Mlp` of tanh or ReLU on the CPU, computed by numpy, without gradients.

    For the few rows of an interaction loop numpy's calls cost a fraction of torch's, and its tanh is several times
    faster. Results agree with the module's up to rounding; changes of its parameters are seen.

    Args:
        mlp: the module, float32 on the CPU.

    Raises:
        ConfigurationError: an activation that numpy lacks.
    """

    def __init__(self, mlp: Mlp) -> None:
        if not self.supports(mlp):
            raise ConfigurationError(f"{type(mlp.activation).__name__} cannot be computed on arrays")
        self._parameters = [parameter for layer in mlp._linear_layers() for parameter in (layer.weight, layer.bias)]
        self._norms = [] if mlp.norms is None else cast("list[nn.LayerNorm]", list(mlp.norms))
        self._is_tanh = isinstance(mlp.activation, nn.Tanh)
        self._addresses: list[int] = []
        self._layers: list[tuple[NDArray[Any], NDArray[Any]]] = []

    @staticmethod
    def supports(mlp: Mlp) -> bool:
        """Whether ``mlp`` has a double on arrays."""
        return isinstance(mlp.activation, nn.Tanh | nn.ReLU)

    def __call__(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Outputs float32 ``[B, n_out]`` for inputs float32 ``[B, n_in]``."""
        addresses = [parameter.data_ptr() for parameter in self._parameters]
        if addresses != self._addresses:
            arrays = [parameter.detach().numpy() for parameter in self._parameters]
            self._layers = list(zip([weight.T for weight in arrays[::2]], arrays[1::2], strict=True))
            self._addresses = addresses
        *hidden, last = self._layers
        for index, (weight, bias) in enumerate(hidden):
            inputs = _affine(inputs, weight, bias)
            if self._norms:
                inputs = _normalized(inputs, self._norms[index])
            if self._is_tanh:
                np.tanh(inputs, out=inputs)
            else:
                np.maximum(inputs, 0.0, out=inputs)
        return _affine(inputs, *last)


def _normalized(inputs: NDArray[Any], norm: nn.LayerNorm) -> NDArray[Any]:
    outputs: NDArray[Any] = inputs - inputs.mean(axis=1, keepdims=True)
    variance = np.square(outputs).mean(axis=1, keepdims=True)
    outputs *= norm.weight.detach().numpy() / np.sqrt(variance + norm.eps)
    outputs += norm.bias.detach().numpy()
    return outputs


def _affine(inputs: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    if len(inputs) * weight.size > LARGEST_NUMPY_PRODUCT:
        return torch.addmm(torch.from_numpy(bias), torch.from_numpy(inputs), torch.from_numpy(weight)).numpy()
    outputs: NDArray[Any] = inputs @ weight
    outputs += bias
    return outputs
