"""Several networks of one shape, computed side by side: one batched product per layer, not one per network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from bbrl_exp.arguments import AT_LEAST_1, FROM_0_BELOW_1, check_sizes
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.memory import check_parameters
from bbrl_exp.nn.batch_renormalization import BatchRenormalization
from bbrl_exp.nn.mlp import ACTIVATIONS

# Draws the units that are silent, or gives masks that were drawn before.
DropoutSource = torch.Generator | Iterator[Tensor]
NORMALIZATIONS = ("none", "layer", "batch")


class EnsembleMlp(nn.Module):
    """M multi-layer perceptrons with separate weights, orthogonal at first, and zero biases.

    A hidden layer is linear, dropout, layer normalisation, activation (Hiraoka et al., 2022, DroQ, figure 1); or
    linear, activation, batch renormalisation, with the inputs renormalised too (Bhatt et al., 2024, CrossQ).

    Args:
        n_members: number M of networks.
        sizes: number of inputs, of units of each hidden layer, and of outputs.
        activation: ``tanh``, ``relu``, ``elu``, ``gelu`` or ``silu``, in every hidden layer.
        normalization: ``none``, ``layer`` (Ba et al., 2016) or ``batch`` (Ioffe, 2017).
        dropout: probability with which a hidden unit is silent.
        generator: source of the initial weights; torch's global one by default.

    Raises:
        ConfigurationError: an unknown activation or normalisation, a size below 1, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        n_members: int,
        sizes: Sequence[int],
        activation: str = "relu",
        normalization: Literal["none", "layer", "batch"] = "none",
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("activation", activation, tuple(ACTIVATIONS)),
            ("normalization", normalization, NORMALIZATIONS),
        ):
            if value not in known:
                raise ConfigurationError(f"{name}='{value}': one of {', '.join(known)}{did_you_mean(value, known)}")
        AT_LEAST_1.check(n_members=n_members)
        check_sizes(sizes=sizes)
        if len(sizes) < 2:
            raise ConfigurationError(f"sizes={list(sizes)}: must have at least an input and an output size")
        FROM_0_BELOW_1.check(dropout=dropout)
        n_parameters = n_members * sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        check_parameters(n_parameters, f"n_critics={n_members}")
        self.n_members = n_members
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for n_in, n_out in pairwise(sizes):
            gain = 1.0 if len(self.weights) == len(sizes) - 2 else math.sqrt(2)
            members = [torch.empty(n_out, n_in) for _ in range(n_members)]
            for member in members:
                nn.init.orthogonal_(member, gain, generator=generator)
            self.weights.append(nn.Parameter(torch.stack(members).mT.contiguous()))
            self.biases.append(nn.Parameter(torch.zeros(n_members, 1, n_out)))
        self.activation = ACTIVATIONS[activation]()
        hidden = sizes[1:-1]
        self._has_layer_norm = normalization == "layer"
        if self._has_layer_norm:
            self.norm_weights = nn.ParameterList([torch.ones(n_members, 1, size) for size in hidden])
            self.norm_biases = nn.ParameterList([torch.zeros(n_members, 1, size) for size in hidden])
        renormalized = sizes[:-1] if normalization == "batch" else ()
        self.renormalizations = nn.ModuleList(BatchRenormalization(n_members, size) for size in renormalized)
        self.dropout = dropout

    def forward(self, inputs: Tensor, dropout_generator: DropoutSource | None = None) -> Tensor:
        """Outputs float32 ``[M, N, n_out]`` for inputs ``[N, n_in]``, which all networks see.

        Args:
            inputs: float32 ``[N, n_in]``.
            dropout_generator: source of the units that are silent, or masks that :meth:`draw_masks` gave; without one,
                none is.
        """
        outputs = inputs.expand(self.n_members, *inputs.shape)
        if self.renormalizations:
            outputs = self.renormalizations[0](outputs)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            outputs = torch.baddbmm(bias, outputs, weight)
            if index == last:
                break
            if self.dropout and dropout_generator is not None:
                outputs = outputs * self._mask(outputs, dropout_generator)
            if self._has_layer_norm:
                normalized = nn.functional.layer_norm(outputs, outputs.shape[-1:])
                outputs = torch.addcmul(self.norm_biases[index], normalized, self.norm_weights[index])
            outputs = self.activation(outputs)
            if self.renormalizations:
                outputs = self.renormalizations[index + 1](outputs)
        return outputs

    def draw_masks(self, n_inputs: int, generator: torch.Generator) -> list[Tensor]:
        """The masks of the hidden layers for a pass over N inputs, ``[M, N, n_hidden]`` each; none without dropout."""
        if not self.dropout:
            return []
        return [self._drawn_mask((self.n_members, n_inputs, each.shape[-1]), generator) for each in self.biases[:-1]]

    def _mask(self, like: Tensor, source: DropoutSource) -> Tensor:
        """0 with the probability of dropout, 1 / (1 - dropout) otherwise."""
        if isinstance(source, torch.Generator):
            return self._drawn_mask(like.shape, source).to(like.device)
        return next(source)

    def _drawn_mask(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        keep = 1.0 - self.dropout
        return torch.empty(shape).bernoulli_(keep, generator=generator).div_(keep)
