"""Normal distributions squashed into a box by tanh.

An action ``a = tanh(x)`` has lost x where tanh is flat: keep the sample x from before the squashing, and compute
log-probabilities from it. Densities are those of a in [-1, 1]; scaling a to the bounds of an environment shifts them
by a constant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from bbrl_exp.functional.shapes import expect_alike

_LOG_2 = math.log(2.0)
_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


class SquashedSample(NamedTuple):
    """Actions drawn from a squashed normal distribution.

    Attributes:
        action: tanh(x), ``[N, D]``, in [-1, 1].
        pre_tanh: x, ``[N, D]``.
        log_prob: log-density of the action, summed over its D components, ``[N]``.
    """

    action: Tensor
    pre_tanh: Tensor
    log_prob: Tensor


def squashed_normal(mean: Tensor, log_std: Tensor, noise: Tensor) -> SquashedSample:
    """tanh(mean + exp(log_std) noise), reparametrised (Haarnoja et al. 2018, arXiv:1812.05905, appendix C).

    Args:
        mean: ``[N, D]``.
        log_std: ``[N, D]``.
        noise: standard normal, ``[N, D]``.
    """
    expect_alike("squashed_normal", "ND", mean=mean, log_std=log_std, noise=noise)
    pre_tanh = mean + log_std.exp() * noise
    densities = -0.5 * noise.square() - log_std - _HALF_LOG_2_PI - log_tanh_derivative(pre_tanh)
    return SquashedSample(pre_tanh.tanh(), pre_tanh, densities.sum(dim=1))


def squashed_log_prob(pre_tanh: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of the action tanh(x), summed over its components, ``[N]``.

    Args:
        pre_tanh: x, ``[N, D]``.
        mean: ``[N, D]``.
        log_std: ``[N, D]``.
    """
    expect_alike("squashed_log_prob", "ND", pre_tanh=pre_tanh, mean=mean, log_std=log_std)
    noise = (pre_tanh - mean) * (-log_std).exp()
    densities = -0.5 * noise.square() - log_std - _HALF_LOG_2_PI - log_tanh_derivative(pre_tanh)
    return densities.sum(dim=1)


def log_tanh_derivative(inputs: Tensor) -> Tensor:
    """log(1 - tanh²(x)) = 2 (log 2 - x - softplus(-2x)), finite for every x; of any shape."""
    return 2.0 * (_LOG_2 - inputs - functional.softplus(-2.0 * inputs))


def unit_to_bounds(unit: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """From [-1, 1] to [low, high], ``[N, D]`` with bounds ``[D]``."""
    return low + (high - low) * (0.5 * (unit + 1.0))


def bounds_to_unit(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """From [low, high] to [-1, 1], ``[N, D]`` with bounds ``[D]``: what :func:`unit_to_bounds` undoes."""
    return 2.0 * (value - low) / (high - low) - 1.0
