"""A step of gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bbrl_exp.nn.flat_optimizer import step


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, inputs: Sequence[Tensor] | None = None) -> None:
    """One step of ``optimizer`` down ``loss``, a scalar; where ``inputs`` are given, nothing else gets a gradient."""
    optimizer.zero_grad()
    torch.autograd.backward(loss, inputs=inputs)
    step(optimizer)
