"""Options that several learners have: each group a dataclass from which learners inherit fields, ranges and texts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AboveZero, FromZeroToOne
from bbrl_exp.data.transitions import DONE, REWARD, TERMINATED, TRUNCATED, Transitions
from bbrl_exp.functional.returns import generalized_advantages
from bbrl_exp.functional.schedules import linear_until
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.with_options import WithOptions
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.q_values import EpsilonGreedy


class ReturnOptions(WithOptions):
    """What is learned from the rewards."""

    discount: FromZeroToOne = 0.99
    """γ."""
    reward: str = REWARD
    """variable of the rewards."""

    def reads_with(self, policy: Agent, *others: str) -> tuple[str, ...]:
        """All that is read of the workspace: what the policy saw and did, ``others``, and what came of it."""
        own = (*(policy.reads or ()), *(policy.writes or ()))
        return (*own, *others, self.reward, TERMINATED, TRUNCATED, DONE)


class AdvantageOptions(ReturnOptions):
    """Generalised advantage estimates (Schulman et al., 2016)."""

    trace_decay: FromZeroToOne = 1.0
    """λ of the advantages."""

    def advantages(self, rows: Transitions, values: Tensor) -> Tensor:
        """Of all pairs of rows, ``[T, B]``, for the values ``[T + 1, B]`` of the rows."""
        return generalized_advantages(
            rows.rewards, values[:-1], values[1:], rows.terminated, rows.cut, self.discount, self.trace_decay
        )


class StepOptions(WithOptions):
    """How parameters move along the gradient."""

    learning_rate: AboveZero = 1e-3
    """of Adam."""
    anneal_learning_rate: bool = False
    """whether it falls linearly to zero over the run."""
    max_grad_norm: AboveZero | None = None
    """largest norm of the gradient; None for no limit."""

    def annealed(self, *others: str) -> tuple[str, ...]:
        """The options that depend on the length of the run: ``others``, and the learning rate where it falls."""
        return (*others, "anneal_learning_rate") if self.anneal_learning_rate else others

    def learning_rate_at(self, progress: Progress) -> float:
        """The learning rate of an update."""
        return self.learning_rate * progress.remaining if self.anneal_learning_rate else self.learning_rate

    def flat_adam(self, parameters: Iterable[nn.Parameter], epsilon: float = 1e-8) -> FlatOptimizer:
        """Adam for ``parameters``, with these options; annealing is up to the learner."""
        return FlatOptimizer(
            parameters,
            lambda flat: torch.optim.Adam(flat, self.learning_rate, eps=epsilon, fused=True),
            self.max_grad_norm,
        )


class EpsilonOptions(WithOptions):
    """How often a greedy policy acts at random."""

    initial_epsilon: FromZeroToOne = 1.0
    """ε in the beginning."""
    final_epsilon: FromZeroToOne = 0.05
    """ε from ``exploration_fraction`` on."""
    exploration_fraction: FromZeroToOne = 0.2
    """part of the run in which ε falls linearly."""

    def explore(self, exploration: EpsilonGreedy, fraction: float) -> float:
        """Sets the ε of a policy when the part ``fraction`` of the run is done, and returns it."""
        epsilon = linear_until(self.initial_epsilon, self.final_epsilon, fraction, self.exploration_fraction)
        exploration.set_epsilon(epsilon)
        return epsilon
