"""The parameters of K modules that are built alike, in one block of memory, and one step of all their optimizers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.stacked.moments import Moments

# Numbers in a line of the cache: every row begins with one, so that rows are computed alike wherever they are.
_LINE = 16


class ParameterStack:
    """The parameters of K modules as a block ``[K, n]``, of which each parameter is a view ``[K, *shape]``.

    The modules keep their own memory: what is in the block is copied to them by :meth:`store`.

    Args:
        parameters: those of each module, in the same order.

    Attributes:
        rows: the numbers of each module, ``[n]`` each, views of the block.
    """

    def __init__(self, parameters: Sequence[Sequence[nn.Parameter]]) -> None:
        first = parameters[0]
        sizes = [parameter.numel() for parameter in first]
        self.n_numbers = sum(sizes)
        self._own = [parameter.data for each in parameters for parameter in each]
        width = math.ceil(self.n_numbers / _LINE) * _LINE
        self.block = torch.zeros(len(parameters), width, dtype=first[0].dtype, device=first[0].device)
        self.rows = [row[: self.n_numbers] for row in self.block]
        self._views = self._views_of(self.block, first)
        self._index = {id(parameter): index for index, parameter in enumerate(first)}
        self._in_block = [view[job] for job in range(len(parameters)) for view in self._views]
        torch._foreach_copy_(self._in_block, self._own)

    def of(self, parameter: Tensor) -> Tensor:
        """The view ``[K, *shape]`` of a parameter of the first module, with its gradient where it learns."""
        return self._views[self._index[id(parameter)]]

    @torch.no_grad()
    def store(self) -> None:
        """Copies the numbers to the modules."""
        torch._foreach_copy_(self._own, self._in_block)

    def _views_of(self, block: Tensor, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
        views, start = [], 0
        for parameter in parameters:
            stop = start + parameter.numel()
            views.append(block[:, start:stop].view(len(block), *parameter.shape))
            start = stop
        return views


class LearningStack(ParameterStack):
    """A stack that learns: each module keeps its own optimizer, with its state, and all take a step together.

    Args:
        optimizers: of each module; their learning rates and limits of the gradient's norm are read at every step.

    Raises:
        ValueError: an optimizer whose parameters are not laid out side by side.
    """

    def __init__(self, optimizers: Sequence[FlatOptimizer]) -> None:
        super().__init__([optimizer._parameters for optimizer in optimizers])
        self._optimizers = optimizers
        self._gradient = torch.zeros_like(self.block)
        self._views = [view.detach().requires_grad_() for view in self._views]
        self._gradient_views = self._views_of(self._gradient, optimizers[0]._parameters)
        self._blocks: list[nn.Parameter] = []
        for optimizer in optimizers:
            if optimizer._block is None:
                raise ValueError("an optimizer to which the shapes of the parameters matter")
            self._blocks.append(optimizer._block)
        self._own = [block.data for block in self._blocks]
        self._in_block = self.rows
        self._gradient_rows = [row[: self.n_numbers] for row in self._gradient]
        self._moments = Moments(self.block, self._gradient)

    @torch.no_grad()
    def store(self) -> None:
        """Copies the numbers to the modules, and what Adam remembers to their optimizers."""
        super().store()
        self._moments.store()

    def step(self, losses: Tensor, active: Sequence[int] | None = None) -> Tensor:
        """One step of each module down its loss, ``[K]``; gives the norms of the gradients before clipping, ``[K]``.

        Args:
            losses: no loss depends on the parameters of another module.
            active: the modules that take the step; None for all.
        """
        gradient = self._gradient
        found = torch.autograd.grad(losses.sum(), self._views, allow_unused=True, materialize_grads=True)
        torch._foreach_copy_(self._gradient_views, found)
        norms: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        limits = [optimizer.max_grad_norm for optimizer in self._optimizers]
        if any(limit is not None for limit in limits):
            most = torch.tensor([math.inf if limit is None else limit for limit in limits], device=norms.device)
            gradient.mul_((most / (norms + 1e-6)).clamp_(max=1.0)[:, None])
        self._descend(range(len(self._optimizers)) if active is None else active)
        return norms

    @torch.no_grad()
    def _descend(self, jobs: Iterable[int]) -> None:
        """Adam without hooks, as learners use it, steps in one call for all that have the same numbers."""
        together = []
        for job in jobs:
            optimizer = self._optimizers[job]._optimizer
            if self._moments.takes(job, optimizer):
                together.append(job)
            else:
                self._step_alone(job)
        self._moments.step(together)

    def _step_alone(self, job: int) -> None:
        optimizer = self._optimizers[job]
        self._own[job].copy_(self.rows[job])
        optimizer._gradient.copy_(self._gradient_rows[job])
        optimizer._optimizer.step()
        self.rows[job].copy_(self._own[job])
