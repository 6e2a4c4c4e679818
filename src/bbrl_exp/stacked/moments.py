"""What the Adams of K modules remember, in blocks of memory like that of the parameters: one call moves them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bbrl_exp.nn.flat_optimizer import has_hooks, is_plain_adam


class Moments:
    """The first and second moments of K Adams (Kingma and Ba, 2015), each of which moves one row of a block.

    The optimizers keep their own state, which is up to date after :meth:`store`.

    Args:
        block: the parameters, ``[K, n]``.
        gradient: likewise.
    """

    def __init__(self, block: Tensor, gradient: Tensor) -> None:
        self._blocks = [block, gradient, torch.zeros_like(block), torch.zeros_like(block)]
        self._rows = [list(each.unbind()) for each in self._blocks]
        self._groups: dict[int, dict[str, Any]] = {}
        self._states: dict[int, dict[str, Any]] = {}
        self._n_steps: dict[int, float] = {}

    def takes(self, job: int, optimizer: Optimizer) -> bool:
        """Whether the optimizer of a job can step here: a plain fused Adam that has stepped before, without hooks."""
        group = optimizer.param_groups[0]
        state = optimizer.state.get(group["params"][0])
        is_known = job in self._states and self._states[job] is state
        if not state or not is_plain_adam(optimizer) or has_hooks(optimizer):
            if is_known:
                self._store(job)
            self._states.pop(job, None)
            return False
        self._groups[job] = group
        if not is_known:
            self._states[job], self._n_steps[job] = state, float(state["step"])
            for own, row in self._moments(job):
                row.copy_(own)
        return True

    def step(self, jobs: Sequence[int]) -> None:
        """Moves the rows of ``jobs`` by their gradients; those that have the same numbers in one call."""
        alike: dict[tuple[float, ...], list[int]] = {}
        for job in jobs:
            self._n_steps[job] += 1
            group = self._groups[job]
            key = (self._n_steps[job], group["lr"], *group["betas"], group["eps"], group["weight_decay"])
            alike.setdefault(key, []).append(job)
        for (n_steps, rate, beta1, beta2, epsilon, decay), together in alike.items():
            if len(together) == len(self._rows[0]):
                numbers, gradients, first, second = ([block] for block in self._blocks)
            else:
                numbers, gradients, first, second = ([rows[job] for job in together] for rows in self._rows)
            torch._fused_adam_(
                numbers,
                gradients,
                first,
                second,
                [],
                [torch.tensor(n_steps)] * len(numbers),
                lr=rate,
                beta1=beta1,
                beta2=beta2,
                weight_decay=decay,
                eps=epsilon,
                amsgrad=False,
                maximize=False,
            )

    def store(self) -> None:
        """Brings the optimizers up to date."""
        for job in self._states:
            self._store(job)

    def _store(self, job: int) -> None:
        self._states[job]["step"].fill_(self._n_steps[job])
        for own, row in self._moments(job):
            own.copy_(row)

    def _moments(self, job: int) -> list[tuple[Tensor, Tensor]]:
        """The moments that the optimizer has, and where they are here."""
        own = [self._states[job][name] for name in ("exp_avg", "exp_avg_sq")]
        return [(each, rows[job][: len(each)]) for each, rows in zip(own, self._rows[2:], strict=True)]
