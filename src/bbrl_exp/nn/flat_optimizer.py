"""Optimizers that start and step fast: without torch's compiler, and on one block of memory."""

from __future__ import annotations

import inspect
import math
import sys
import types
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]

# A compiled function leaves these out, and torch imports its compiler to arrange that.
_NEVER_COMPILED = (Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict)
# Options of Adam with which its step is left to torch.
_NOT_PLAIN = ("amsgrad", "maximize", "decoupled_weight_decay")
# Their steps treat every number by itself, whatever the tensor that it is in.
_ELEMENT_WISE = (
    torch.optim.ASGD,
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Rprop,
    torch.optim.SGD,
)


def eager(make: Callable[[], Optimizer]) -> Optimizer:
    """The optimizer that ``make`` gives, without torch's compiler; the steps are the same.

    By default torch imports its compiler for the first optimizer, which takes a second, although nothing is compiled.
    An optimizer whose class is not one of torch's imports it all the same.
    """
    if "torch._dynamo" in sys.modules:
        return make()
    for method in _NEVER_COMPILED:
        plain = inspect.unwrap(method)
        plain.__dict__.setdefault("__dynamo_disable", plain)
    optimizer = make()
    if type(optimizer).__module__.startswith("torch.optim."):
        step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
        optimizer.step = types.MethodType(Optimizer.profile_hook_step(step), optimizer)  # type: ignore[method-assign]
    return optimizer


class FlatOptimizer:
    """Lays parameters and their gradients side by side, and optimizes them as one vector.

    The parameters keep their identities and shapes, as views of the block; a module that is moved to another
    device is laid out again there. For small networks this takes most of the cost out of a step: zeroing, the norm, the
    clipping and the step itself are one call each.

    An optimizer to which the shapes of the parameters matter gets the parameters themselves: every one that is not
    known to treat every number by itself, as Adam, RMSprop and SGD do.

    Args:
        parameters: of any number of modules; one that occurs twice counts once, one that needs no gradient not at all.
        make: gives the optimizer of a list of parameters, such as ``lambda p: torch.optim.Adam(p, 3e-4, fused=True)``.
        max_grad_norm: the gradient is scaled down to this norm; None for no limit.

    Attributes:
        max_grad_norm: as above; it may be changed between steps.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], make: MakeOptimizer, max_grad_norm: float | None = None
    ) -> None:
        self._parameters = list(dict.fromkeys(parameter for parameter in parameters if parameter.requires_grad))
        self._make = make
        self.max_grad_norm = max_grad_norm
        self._block: nn.Parameter | None = None
        self._optimizer = make(self._parameters)
        is_one_kind = len({(parameter.dtype, parameter.device) for parameter in self._parameters}) == 1
        if type(self._optimizer) in _ELEMENT_WISE and is_one_kind:
            self._lay_out()

    @property
    def optimizer(self) -> Optimizer:
        """That of the block, or else of the parameters; another one after they were moved to another device."""
        self._follow_parameters()
        return self._optimizer

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters, in the order in which they are in the block."""
        return self._parameters

    @property
    def learning_rate(self) -> float:
        """The optimizer's learning rate."""
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._follow_parameters()
        if value != self.learning_rate:
            for group in self._optimizer.param_groups:
                group["lr"] = value

    def step(self, loss: Tensor) -> Tensor:
        """Minimises ``loss``, a scalar, by one step; returns the norm of its gradient before clipping, detached."""
        if self._block is None:
            self._optimizer.zero_grad()
            torch.autograd.backward(loss, inputs=self._parameters)
            largest = math.inf if self.max_grad_norm is None else self.max_grad_norm
            norm: Tensor = nn.utils.clip_grad_norm_(self._parameters, largest)
            self._optimizer.step()
            return norm
        self._follow_parameters()
        gradient = self._gradient
        gradient.zero_()
        _backward(loss, self._inputs)
        norm = torch.linalg.vector_norm(gradient)
        limit = self.max_grad_norm
        # A norm well below the limit would be multiplied by 1. Elsewhere than on the CPU, asking for it takes longer.
        if limit is not None and not (self._is_on_cpu and norm.item() + 2e-6 < limit * (1.0 - 1e-6)):
            gradient.mul_((limit / (norm + 1e-6)).clamp_(max=1.0))
        step(self._optimizer)
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
        if self._block is not None and self._parameters[0].data_ptr() != self._block.data_ptr():
            self._lay_out()

    def _lay_out(self) -> None:
        with torch.no_grad():
            self._block = block = nn.Parameter(
                torch.cat([parameter.detach().flatten() for parameter in self._parameters])
            )
            self._is_on_cpu = block.device.type == "cpu"
            self._inputs = tuple(self._parameters)
            self._gradient = torch.zeros_like(block)
            block.grad = self._gradient
            first = 0
            for parameter in self._parameters:
                rows = slice(first, first + parameter.numel())
                parameter.data = block.detach()[rows].view_as(parameter)
                parameter.grad = self._gradient[rows].view_as(parameter)
                first = rows.stop
        self._optimizer = self._make([block])


def step(optimizer: Optimizer) -> None:
    """``optimizer.step()``; that of a fused Adam without torch's preparations, which take longer than a small step.

    Where hooks are registered, of this optimizer or of all, it is torch's own step, which calls them.
    """
    if not is_plain_adam(optimizer) or has_hooks(optimizer):
        optimizer.step()
        return
    group = optimizer.param_groups[0]
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    states: list[dict[str, Any]] = [optimizer.state[parameter] for parameter in parameters]
    if not (states and all(states)):  # the first step makes them
        optimizer.step()
        return
    steps = [state["step"] for state in states]
    with torch.no_grad():
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def is_plain_adam(optimizer: Optimizer) -> bool:
    """Whether it is the fused Adam of torch with one group, none of whose variants is chosen."""
    if type(optimizer) is not Adam or len(optimizer.param_groups) > 1:
        return False
    group = optimizer.param_groups[0]
    return bool(group["fused"]) and not any(group[name] for name in _NOT_PLAIN)


def has_hooks(optimizer: Optimizer) -> bool:
    """Whether hooks of a step are registered, of this optimizer or of all."""
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return bool(own or _global_optimizer_pre_hooks or _global_optimizer_post_hooks)


def _backward(loss: Tensor, inputs: tuple[nn.Parameter, ...]) -> None:
    """As ``torch.autograd.backward(loss, inputs=inputs)``; for a real scalar without its checks.

    They take a fifth of a small backward pass.
    """
    run = None if loss.ndim or loss.is_complex() else _engine()
    if run is None:
        torch.autograd.backward(loss, inputs=inputs)
    else:
        run((loss,), (torch.ones_like(loss),), False, False, inputs, allow_unreachable=True, accumulate_grad=True)


@cache
def _engine() -> Callable[..., Any] | None:
    """What ``torch.autograd.backward`` calls, no public function; None where it is missing or does otherwise."""
    leaf = torch.ones((), requires_grad=True)
    with torch.enable_grad():
        root = 2 * leaf
    try:
        run: Callable[..., Any] = torch.autograd.Variable._execution_engine.run_backward
        run((root,), (torch.ones_like(root),), False, False, (leaf,), allow_unreachable=True, accumulate_grad=True)
    except (AttributeError, TypeError, RuntimeError):
        return None
    return run if leaf.grad is not None and leaf.grad.item() == 2.0 else None
