"""Multi-layer perceptrons, with a path that allocates little where no gradient is wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.errors import ConfigurationError, did_you_mean

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Mlp(nn.Module):
    """A multi-layer perceptron with orthogonal initial weights and zero biases.

    Without gradients, on the CPU and for small batches, hidden layers are computed in memory that is kept from call to
    call; the result is a tensor of its own all the same, equal to the other path's up to rounding.

    Args:
        sizes: number of inputs, of units of each hidden layer, and of outputs.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``, after every hidden layer.
        output_gain: gain of the last layer's initial weights; the hidden ones have √2.
        generator: source of the initial weights; torch's global one by default.

    Raises:
        ConfigurationError: an unknown activation, or a size below 1.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        output_gain: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise ConfigurationError(
                f"activation='{activation}': one of {allowed}{did_you_mean(activation, ACTIVATIONS)}"
            )
        if len(sizes) < 2 or min(sizes) < 1:
            raise ConfigurationError(f"sizes={list(sizes)}: at least an input and an output size, none below 1")
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.activation = ACTIVATIONS[activation]()
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            gain = output_gain if layer is self.layers[-1] else math.sqrt(2)
            nn.init.orthogonal_(layer.weight, gain, generator=generator)
            nn.init.zeros_(layer.bias)
        self._scratch: dict[int, list[tuple[Tensor, NDArray[Any]]]] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs ``[…, n_out]`` for inputs ``[…, n_in]``, both floating point."""
        is_small = inputs.dim() == 2 and inputs.dtype is torch.float32 and inputs.device.type == "cpu"
        if is_small and not torch.is_grad_enabled() and isinstance(self.activation, nn.Tanh):
            return self._forward_without_gradients(inputs)
        *hidden, last = self.layers
        for layer in hidden:
            inputs = self.activation(layer(inputs))
        return last(inputs)  # type: ignore[no-any-return]

    def _forward_without_gradients(self, inputs: Tensor) -> Tensor:
        # numpy's tanh is several times faster than torch's on the CPU, and addmm(out=) saves an allocation a layer.
        layers = cast("list[nn.Linear]", list(self.layers._modules.values()))
        scratch = self._scratch.get(len(inputs))
        if scratch is None:
            scratch = self._scratch[len(inputs)] = self._allocate(len(inputs))
        for layer, (hidden, array) in zip(layers, scratch, strict=False):
            torch.addmm(layer.bias, inputs, layer.weight.t(), out=hidden)
            np.tanh(array, out=array)
            inputs = hidden
        return torch.addmm(layers[-1].bias, inputs, layers[-1].weight.t())

    def _allocate(self, batch_size: int) -> list[tuple[Tensor, NDArray[Any]]]:
        hidden_sizes = [layer.out_features for layer in list(self.layers)[:-1] if isinstance(layer, nn.Linear)]
        with torch.inference_mode(False):
            tensors = [torch.empty(batch_size, size) for size in hidden_sizes]
        return [(tensor, tensor.numpy()) for tensor in tensors]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scratch": {}}
