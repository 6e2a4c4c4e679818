"""Options that several learners have: each group a dataclass from which learners inherit fields, ranges and texts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AboveZero, FromZeroToOne
from bbrl_exp.data.transitions import DONE, REWARD, TERMINATED, TRUNCATED
from bbrl_exp.functional.schedules import linear_until
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.with_options import with_options
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.q_values import EpsilonGreedy


@with_options
class ReturnOptions:
    """What is learned from the rewards.

    Args:
        discount: γ.
        reward: variable of the rewards.
    """

    discount: FromZeroToOne = 0.99
    reward: str = REWARD

    def reads_with(self, policy: Agent, *others: str) -> tuple[str, ...]:
        """All that is read of the workspace: what the policy saw and did, ``others``, and what came of it."""
        own = (*(policy.reads or ()), *(policy.writes or ()))
        return (*own, *others, self.reward, TERMINATED, TRUNCATED, DONE)


@with_options
class AdvantageOptions(ReturnOptions):
    """Generalised advantage estimates (Schulman et al., 2016).

    Args:
        trace_decay: λ of the advantages.
    """

    trace_decay: FromZeroToOne = 1.0


@with_options
class StepOptions:
    """How parameters move along the gradient.

    Args:
        learning_rate: of Adam.
        anneal_learning_rate: whether it falls linearly to zero over the run.
        max_grad_norm: largest norm of the gradient; None for no limit.
    """

    learning_rate: AboveZero = 1e-3
    anneal_learning_rate: bool = False
    max_grad_norm: AboveZero | None = None

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


@with_options
class EpsilonOptions:
    """How often a greedy policy acts at random.

    Args:
        initial_epsilon: ε in the beginning.
        final_epsilon: ε from ``exploration_fraction`` on.
        exploration_fraction: part of the run in which ε falls linearly.
    """

    initial_epsilon: FromZeroToOne = 1.0
    final_epsilon: FromZeroToOne = 0.05
    exploration_fraction: FromZeroToOne = 0.2

    def explore(self, exploration: EpsilonGreedy, fraction: float) -> float:
        """Sets the ε of a policy when the part ``fraction`` of the run is done, and returns it."""
        epsilon = linear_until(self.initial_epsilon, self.final_epsilon, fraction, self.exploration_fraction)
        exploration.set_epsilon(epsilon)
        return epsilon
