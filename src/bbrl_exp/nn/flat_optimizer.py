"""An optimizer on one block of memory: what costs a call for every parameter elsewhere costs one call here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class FlatOptimizer:
    """Lays parameters and their gradients side by side, and optimizes them as one vector.

    The parameters stay what they are, of their own shapes, as views of the block; a module that is moved to another
    device is laid out again there. For small networks this takes most of the cost out of a step: zeroing, the norm, the
    clipping and the step itself are one call each.

    Args:
        parameters: of any number of modules; one that occurs twice counts once, one without gradients not at all. All
            of one dtype and device.
        make: gives the optimizer of a list of parameters, such as ``lambda p: torch.optim.Adam(p, 3e-4, fused=True)``;
            one whose step treats every number by itself, as Adam and RMSprop do.
        max_grad_norm: the gradient is scaled down to this norm; None for no limit.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], make: MakeOptimizer, max_grad_norm: float | None = None
    ) -> None:
        self._parameters = list(dict.fromkeys(each for each in parameters if each.requires_grad))
        self._make = make
        self._max_grad_norm = max_grad_norm
        self._lay_out()

    @property
    def learning_rate(self) -> float:
        """The optimizer's learning rate."""
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._follow_parameters()
        self._optimizer.param_groups[0]["lr"] = value

    def step(self, loss: Tensor) -> Tensor:
        """Minimises ``loss``, a scalar, by one step; returns the norm of its gradient before clipping, detached."""
        self._follow_parameters()
        gradient = self._gradient
        gradient.zero_()
        torch.autograd.backward(loss, inputs=self._parameters)
        norm: Tensor = torch.linalg.vector_norm(gradient)
        if self._max_grad_norm is not None:
            gradient.mul_((self._max_grad_norm / (norm + 1e-6)).clamp_(max=1.0))
        self._optimizer.step()
        return norm

    def state(self) -> dict[str, Any]:
        """The optimizer's state: tensors and plain Python."""
        return self._optimizer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""
        self._follow_parameters()
        self._optimizer.load_state_dict(state)

    def _follow_parameters(self) -> None:
        """Lays out again what was moved; the optimizer restarts there, without what it knew."""
        if self._parameters[0].data_ptr() != self._block.data_ptr():
            self._lay_out()

    def _lay_out(self) -> None:
        with torch.no_grad():
            self._block = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in self._parameters]))
            self._gradient = torch.zeros_like(self._block)
            self._block.grad = self._gradient
            first = 0
            for parameter in self._parameters:
                rows = slice(first, first + parameter.numel())
                parameter.data = self._block.detach()[rows].view_as(parameter)
                parameter.grad = self._gradient[rows].view_as(parameter)
                first = rows.stop
        self._optimizer = self._make([self._block])
