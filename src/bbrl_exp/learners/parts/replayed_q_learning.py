"""The loop that deep Q-learning shares, with a memory or without: replay, ε, updates that are due, a target network."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from bbrl_exp.arguments import AboveZero, AboveZeroToOne, Count, Scheduled
from bbrl_exp.compilation.compiler import NotCompilableError
from bbrl_exp.data.prioritised import PrioritisedReplay
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.functional.schedules import before_the_run
from bbrl_exp.learners.compiled.updates import CompiledUpdates
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.options import EpsilonOptions, StepOptions, adam
from bbrl_exp.learners.parts.replayed import ReplayOptions
from bbrl_exp.learners.parts.target_follower import TargetFollower
from bbrl_exp.workspace import Workspace

Network = TypeVar("Network", bound=nn.Module)


class Learned(NamedTuple):
    """One update: its loss, the norm of its gradient, the values of the actions taken, and which of them counted."""

    loss: Tensor
    gradient_norm: Tensor
    values: Tensor
    valid: Tensor | None = None

    @property
    def q_mean(self) -> Tensor:
        """The mean of the values that counted."""
        if self.valid is None:
            return self.values.detach().mean()
        return self.values.detach().masked_fill(~self.valid, 0.0).sum() / self.valid.sum().clamp(min=1)


class ReplayedQLearning(EpsilonOptions, StepOptions, ReplayOptions):
    """Learns the action values of a policy from a replay buffer."""

    not_saved = ("_follower",)  # what it moves are modules, and its rate is set at every update
    # It hides nn.Module.double, by which no learner becomes one of doubles: observations are what they are.
    double: bool = True  # type: ignore[assignment]
    """whether Q chooses the action that Q' values."""
    n_steps: Count = 1
    """rewards in a target."""
    max_grad_norm: Scheduled[AboveZero] | None = 10.0
    replay_capacity: Count = 100_000
    target_period: Count | None = None
    """environment steps after which Q' becomes Q; None for moving averages."""
    target_rate: Scheduled[AboveZeroToOne] | None = 0.005
    """τ, by which Q' moves towards Q at every update; None for copies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reads = self.reads_with(self.policy)
        self._optimizer = self.flat_optimizer(self.policy.network.parameters(), adam())
        self._replay: ReplayBuffer | PrioritisedReplay  # is each algorithm's own
        self._n_updates = 0

    def target_of(self, network: Network) -> Network:
        """A copy of ``network``, which follows it by one of the two rules."""
        target = copy.deepcopy(network).requires_grad_(False)
        self._follower = TargetFollower(
            target,
            network,
            period=self.target_period,
            rate=before_the_run(self.target_rate, 1.0),
            updates_per_step=self.updates_per_step,
        )
        return target

    def awaits(self) -> str | None:
        return self.first_update(self._n_updates)

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        self._replay.put(workspace, progress.first_row)
        epsilon = self.explore(progress.env_steps, progress.length)
        self.begin_step(self._optimizer, progress)
        self._follower.rate = self.target_rate
        due = self.updates_due(progress) if self.can_learn() else 0
        last = None
        while self._n_updates < due:
            if (compiled := self.compiled) is not None and self.can_learn_at_once(compiled.at_once, due):
                try:
                    last = self.learn_at_once(compiled, progress.fraction)
                    continue
                except NotCompilableError as reason:
                    self.give_up_compiling(reason)
            last = self.learn(progress.fraction)
            self._n_updates += 1
            self._follower.follow(self._n_updates)
        if last is None:
            return {"learner/epsilon": epsilon}
        return {
            "losses/q": last.loss.detach(),
            "learner/q_mean": last.q_mean,
            "learner/gradient_norm": last.gradient_norm,
            "learner/epsilon": epsilon,
            "learner/learning_rate": self._optimizer.learning_rate,
            "learner/updates": float(self._n_updates),
        }

    def can_learn(self) -> bool:
        """Whether the buffer holds enough for an update."""
        return len(self._replay) > 0

    @abstractmethod
    def learn(self, fraction: float) -> Learned:
        """One update, when the part ``fraction`` of the run is done."""

    def can_learn_at_once(self, n_updates: int, due: int) -> bool:
        """Whether so many updates are due that one graph does; those that are left over are not compiled."""
        return self._n_updates + n_updates <= due and self._follower.lets_pass(n_updates, self._n_updates)

    def learn_at_once(self, compiled: CompiledUpdates, fraction: float) -> Learned:
        """As many updates as one graph does, the target network's moves and the count included."""
        raise NotCompilableError(f"{type(self).__name__} has no compiled update")
