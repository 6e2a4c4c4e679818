"""Options that several learners have: each group a dataclass from which learners inherit fields, ranges and texts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Annotated

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AboveZero, BuiltLater, FromZeroToOne, Scheduled, check_default, check_unused
from bbrl_exp.data.transitions import DONE, REWARD, TERMINATED, TRUNCATED, Transitions
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.returns import generalized_advantages
from bbrl_exp.functional.schedules import Schedule, before_the_run, linear_until
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.learners.parts.with_options import WithOptions
from bbrl_exp.nn.flat_optimizer import FlatOptimizer, eager
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_values import QPolicy

MakeOptimizer = Callable[..., torch.optim.Optimizer]
OneOptimizer = Annotated[MakeOptimizer, BuiltLater("optimizer", ("params", "lr"), ("learning_rate",))]


class ReturnOptions(WithOptions):
    """What is learned from the rewards."""

    discount: Scheduled[FromZeroToOne] = 0.99
    """γ."""
    reward: str = REWARD
    """variable of the rewards."""

    def reads_with(self, policy: Agent, *others: str) -> tuple[str, ...]:
        """All that is read of the workspace: what the policy saw and did, ``others``, and what came of it."""
        own = (*(policy.reads or ()), *(policy.writes or ()))
        return (*own, *others, self.reward, TERMINATED, TRUNCATED, DONE)


class AdvantageOptions(ReturnOptions):
    """Generalised advantage estimates (Schulman et al., 2016)."""

    trace_decay: Scheduled[FromZeroToOne] = 1.0
    """λ of the advantages."""

    def advantages(self, rows: Transitions, values: Tensor) -> Tensor:
        """Of all pairs of rows, ``[T, B]``, for the values ``[T + 1, B]`` of the rows."""
        return generalized_advantages(
            rows.rewards, values[:-1], values[1:], rows.terminated, rows.cut, self.discount, self.trace_decay
        )


def adam(epsilon: float = 1e-8) -> MakeOptimizer:
    """Adam as learners use it by themselves, called as ``adam()(parameters, lr=1e-3)``."""
    return functools.partial(torch.optim.Adam, eps=epsilon, fused=True)


def optimizer_of(
    parameters: Iterable[nn.Parameter], learning_rate: float | Schedule, make: MakeOptimizer
) -> torch.optim.Optimizer:
    """The optimizer of parameters, as ``make(parameters, lr=…)`` gives it.

    Raises:
        ConfigurationError: it needs other gradients than those of networks, or cannot step here.
    """
    optimizer = eager(lambda: make(list(parameters), lr=before_the_run(learning_rate, 0.0)))
    name, arguments = type(optimizer).__name__, inspect.signature(optimizer.step).parameters.values()
    if any(each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD for each in arguments):
        raise ConfigurationError(f"optimizer: {name} computes a loss several times in a step; learners compute it once")
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise ConfigurationError(f"optimizer: {name} needs sparse gradients; those of networks are dense")
    for option in ("differentiable", "capturable"):
        if optimizer.defaults.get(option):
            raise ConfigurationError(f"optimizer: {name} with {option}=True cannot step here; leave it out")
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Sets the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = value


class RateOptions(WithOptions):
    """An optimizer with its learning rate."""

    learning_rate: Scheduled[AboveZero] = 1e-3
    """of the optimizer."""
    optimizer: OneOptimizer | None = None
    """node of a ``torch.optim.Optimizer``; None for Adam."""

    def optimizer_of(self, parameters: Iterable[nn.Parameter], default: MakeOptimizer) -> torch.optim.Optimizer:
        """The optimizer that was chosen, or else ``default``, for parameters."""
        return optimizer_of(parameters, self.learning_rate, self.optimizer if callable(self.optimizer) else default)


class StepOptions(RateOptions, Learner):
    """How parameters move along the gradient."""

    anneal_learning_rate: bool = False
    """whether it falls linearly to zero over the run."""
    max_grad_norm: Scheduled[AboveZero] | None = None
    """largest norm of the gradient; None for no limit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "learning_rate" in self._scheduled:
            check_unused("a schedule of learning_rate", anneal_learning_rate=self.anneal_learning_rate)
        if self.anneal_learning_rate:
            self.schedules = (*self.schedules, "anneal_learning_rate")

    def learning_rate_at(self, progress: Progress) -> float:
        """The learning rate of an update."""
        return self.learning_rate * progress.remaining if self.anneal_learning_rate else self.learning_rate

    def flat_optimizer(self, parameters: Iterable[nn.Parameter], default: MakeOptimizer) -> FlatOptimizer:
        """:meth:`optimizer_of` parameters, which are laid out in one block where that makes no difference."""
        return FlatOptimizer(parameters, lambda laid_out: self.optimizer_of(laid_out, default))

    def begin_step(self, optimizer: FlatOptimizer, progress: Progress) -> float:
        """Gives an optimizer the options of an update, and returns its learning rate."""
        optimizer.max_grad_norm = self.max_grad_norm
        optimizer.learning_rate = learning_rate = self.learning_rate_at(progress)
        return learning_rate


class EpsilonOptions(WithOptions, Learner):
    """A greedy policy, and how often it acts at random."""

    policy: QPolicy | RecurrentQPolicy = field(kw_only=False)
    """the policy that chooses the actions; its ε is set here."""
    epsilon: Scheduled[FromZeroToOne] | None = None
    """ε, in place of the linear fall that the next three state; None for this fall."""
    initial_epsilon: FromZeroToOne = 1.0
    """ε in the beginning."""
    final_epsilon: FromZeroToOne = 0.05
    """ε from ``exploration_fraction`` on."""
    exploration_fraction: FromZeroToOne = 0.2
    """part of the run in which ε falls linearly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon is not None:
            check_default("epsilon", self, "initial_epsilon", "final_epsilon", "exploration_fraction")
        else:
            self.schedules = (*self.schedules, "exploration_fraction")
        self.explore(0, 1)

    def start_schedules(self, total_steps: int) -> None:
        super().start_schedules(total_steps)
        self.explore(0, total_steps)

    def explore(self, env_steps: int, total_steps: int) -> float:
        """Sets the ε of the policy for what comes after ``env_steps``, and returns it."""
        if self.epsilon is None:
            fraction, until = min(env_steps / total_steps, 1.0), self.exploration_fraction
            epsilon = linear_until(self.initial_epsilon, self.final_epsilon, fraction, until)
        elif "epsilon" in self._scheduled:
            epsilon = self._value_of("epsilon", env_steps, total_steps)
        else:
            epsilon = self.epsilon
        self.policy.exploration.set_epsilon(epsilon)
        return epsilon
