"""The networks and optimizers of ``bbrl_utils.nn``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from bbrl_exp.compat.tools import get_arguments, get_class, soft_param_update
from bbrl_exp.functional.targets import copy_tensors


def setup_optimizer(cfg_optimizer: Any, *agents: nn.Module | nn.Parameter) -> Optimizer:
    """The optimizer named by ``classname`` in a configuration, over the parameters of agents or over parameters."""
    parameters = [
        parameter for agent in agents for parameter in (agent.parameters() if isinstance(agent, nn.Module) else [agent])
    ]
    optimizer: Optimizer = get_class(cfg_optimizer)(parameters, **get_arguments(cfg_optimizer))
    return optimizer


def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """target ← source, for all parameters."""
    copy_tensors([p.data for p in target.parameters()], [p.data for p in source.parameters()])


def soft_update_params(net: nn.Module, target_net: nn.Module, tau: float) -> None:
    """target ← τ net + (1 - τ) target, for all parameters."""
    soft_param_update(target_net, net, tau)


def ortho_init(layer: nn.Linear, std: float = float(np.sqrt(2)), bias_const: float = 0.0) -> nn.Linear:
    """Orthogonal weights with the gain ``std``, and a constant bias; returns the layer."""
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias_const)
    return layer


def build_ortho_mlp(
    sizes: Sequence[int], activation: nn.Module, output_activation: nn.Module | None = None
) -> nn.Sequential:
    """A multi-layer perceptron with orthogonal weights; see :func:`build_mlp`."""
    mlp = build_mlp(sizes, activation, output_activation)
    for layer in mlp:
        if isinstance(layer, nn.Linear):
            ortho_init(layer)
    return mlp


def build_mlp(sizes: Sequence[int], activation: nn.Module, output_activation: nn.Module | None = None) -> nn.Sequential:
    """A multi-layer perceptron.

    Args:
        sizes: of its input, its hidden layers and its output.
        activation: after every layer but the last, a module: ``nn.ReLU()``.
        output_activation: after the last; None for nothing.
    """
    layers: list[nn.Module] = []
    for index in range(len(sizes) - 1):
        after = activation if index < len(sizes) - 2 else output_activation or nn.Identity()
        layers += [nn.Linear(sizes[index], sizes[index + 1]), after]
    return nn.Sequential(*layers)
