"""The steps of optimizers as operations on tensors alone, for graphs: the numbers of torch's own up to rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from bbrl_exp.compilation.compiler import NotCompilableError
from bbrl_exp.nn.flat_optimizer import FlatOptimizer, has_hooks

_MOMENTS: dict[type[Optimizer], tuple[str, ...]] = {
    Adam: ("exp_avg", "exp_avg_sq"),
    AdamW: ("exp_avg", "exp_avg_sq"),
    RMSprop: ("square_avg",),
    SGD: (),
}
# Options that are not written out here, and the values at which they change nothing.
_PLAIN = {"amsgrad": False, "maximize": False, "centered": False, "momentum": 0, "nesterov": False}

# Numbers of one step: the learning rate, and what it is divided by and the root of the second moment's correction.
N_NUMBERS = 3


class OptimizerState:
    """What an optimizer of torch changes, as tensors in a fixed order.

    Args:
        owner: the optimizer, or the one that lays its parameters out in a block.

    Raises:
        NotCompilableError: the optimizer is not among those that can be compiled.
    """

    def __init__(self, owner: Optimizer | FlatOptimizer) -> None:
        self._owner = owner
        optimizer = self.optimizer
        kind = type(optimizer)
        if kind not in _MOMENTS:
            known = ", ".join(each.__name__ for each in _MOMENTS)
            raise NotCompilableError(f"optimizer {kind.__name__} is not one of those that are compiled: {known}")
        for option, plain in _PLAIN.items():
            if any(group.get(option, plain) != plain for group in optimizer.param_groups):
                raise NotCompilableError(f"optimizer {kind.__name__} is not compiled with {option}")
        if has_hooks(optimizer):
            raise NotCompilableError(f"optimizer {kind.__name__} has hooks, which a graph would not call")

    @property
    def optimizer(self) -> Optimizer:
        """That of torch."""
        return self._owner.optimizer if isinstance(self._owner, FlatOptimizer) else self._owner

    @property
    def leaves(self) -> list[Tensor]:
        """The parameters that gradients are of."""
        return list(self._owner.parameters) if isinstance(self._owner, FlatOptimizer) else self.moved

    @property
    def moved(self) -> list[Tensor]:
        """The tensors that are moved: the parameters, or the block that they are in."""
        return [each for group in self.optimizer.param_groups for each in group["params"]]

    @property
    def max_grad_norm(self) -> float | None:
        """The largest norm of the gradient; None for no limit."""
        return self._owner.max_grad_norm if isinstance(self._owner, FlatOptimizer) else None

    def tensors(self) -> list[Tensor]:
        """What is moved, and its moments, which are made where the optimizer has none yet."""
        names = _MOMENTS[type(self.optimizer)]
        found = list(self.moved)
        for each in self.moved:
            state = self.optimizer.state[each]
            if names and not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=self._device_of_steps(each))
                state.update({name: torch.zeros_like(each) for name in names})
            found += [state[name] for name in names]
        return found

    def _device_of_steps(self, parameter: Tensor) -> torch.device:
        is_fused = any(group.get("fused") for group in self.optimizer.param_groups)
        return parameter.device if is_fused else torch.device("cpu")

    def numbers(self, n_steps: int) -> list[list[float]]:
        """The numbers of each of the next ``n_steps`` steps, one list per group in a row."""
        done = self._steps_done()
        rows = []
        for step in range(done + 1, done + n_steps + 1):
            row: list[float] = []
            for group in self.optimizer.param_groups:
                rate, first, second = float(group["lr"]), 1.0, 1.0
                if "betas" in group:
                    first = 1.0 - group["betas"][0] ** step
                    second = 1.0 - group["betas"][1] ** step
                row += [rate, rate / first, math.sqrt(second)]
            rows.append(row)
        return rows

    def count(self, n_steps: int) -> None:
        """Counts steps that were done."""
        for each in self.moved:
            if (step := self.optimizer.state[each].get("step")) is not None:
                step += n_steps

    def counts(self) -> list[float | None]:
        """How many steps each tensor has made, None where nobody counts."""
        steps = (self.optimizer.state[each].get("step") for each in self.moved)
        return [None if step is None else float(step) for step in steps]

    def set_counts(self, counts: Sequence[float | None]) -> None:
        """Takes over what :meth:`counts` gave."""
        for each, count in zip(self.moved, counts, strict=True):
            if count is not None:
                self.optimizer.state[each]["step"].fill_(count)

    def _steps_done(self) -> int:
        states = (self.optimizer.state[each] for each in self.moved)
        steps = {int(state["step"]) for state in states if "step" in state}
        if len(steps) > 1:
            raise NotCompilableError("its optimizer has moved some parameters more often than others")
        return steps.pop() if steps else 0


class RecordedOptimizer:
    """Takes the place of an optimizer while a graph is recorded: its steps are operations on the graph's tensors.

    Args:
        state: of the optimizer.
        tensors: the graph's, for those that ``state.tensors()`` gives.
        leaves: the graph's parameters, of which gradients are taken.
    """

    def __init__(self, state: OptimizerState, tensors: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
        self.param_groups = state.optimizer.param_groups
        self._kind = type(state.optimizer)
        n_moved, n_moments = len(state.moved), len(_MOMENTS[self._kind])
        self._moved = tensors[:n_moved]
        moments = tensors[n_moved:]
        self._moments = [moments[index * n_moments : (index + 1) * n_moments] for index in range(n_moved)]
        self._leaves = leaves
        self._is_block = len(leaves) != n_moved or (n_moved > 0 and leaves[0].shape != self._moved[0].shape)
        self.numbers: Tensor | None = None
        self.has_moved = False
        self.max_grad_norm: float | Tensor | None = state.max_grad_norm

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for leaf in self._leaves:
            leaf.grad = None

    def step(self, loss: Tensor | None = None) -> Tensor | None:
        """Moves by the gradients there are, as an optimizer of torch; with a loss as :meth:`FlatOptimizer.step`."""
        if loss is None:
            self._move([leaf.grad for leaf in self._leaves])
            return None
        self.zero_grad()
        torch.autograd.backward(loss, inputs=list(self._leaves))
        with torch.no_grad():
            gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self._leaves]
            if self._is_block:
                gradients = [torch.cat([each.flatten() for each in gradients])]
            sizes = [torch.linalg.vector_norm(each) for each in gradients]
            norm: Tensor = sizes[0] if len(sizes) == 1 else torch.linalg.vector_norm(torch.stack(sizes))
            if self.max_grad_norm is not None:
                scale = (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
                gradients = [each * scale for each in gradients]
        self._move(gradients)
        return norm

    @torch.no_grad()
    def _move(self, gradients: Sequence[Tensor | None]) -> None:
        assert self.numbers is not None
        self.has_moved = True
        index = 0
        for number, group in enumerate(self.param_groups):
            numbers = self.numbers[N_NUMBERS * number : N_NUMBERS * (number + 1)]
            for _ in group["params"]:
                gradient, moved, moments = gradients[index], self._moved[index], self._moments[index]
                if gradient is None:
                    raise NotCompilableError("its loss does not depend on all of its parameters")
                self._move_one(moved, gradient, moments, group, numbers)
                index += 1

    def _move_one(
        self, moved: Tensor, gradient: Tensor, moments: Sequence[Tensor], group: dict[str, Any], numbers: Tensor
    ) -> None:
        rate, rate_of_first, root_of_second = numbers.unbind()
        decay = group.get("weight_decay", 0.0)
        if decay and self._is_decoupled(group):
            moved.mul_(1.0 - rate * decay)
        elif decay:
            gradient = gradient + decay * moved
        if self._kind is SGD:
            moved.sub_(rate * gradient)
        elif self._kind is RMSprop:
            (square,) = moments
            square.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1.0 - group["alpha"])
            moved.sub_(rate * gradient / (square.sqrt() + group["eps"]))
        else:
            first, second = moments
            first.lerp_(gradient, 1.0 - group["betas"][0])
            second.mul_(group["betas"][1]).addcmul_(gradient, gradient, value=1.0 - group["betas"][1])
            moved.sub_(rate_of_first * first / (second.sqrt() / root_of_second + group["eps"]))

    def _is_decoupled(self, group: dict[str, Any]) -> bool:
        return self._kind is AdamW or bool(group.get("decoupled_weight_decay"))
