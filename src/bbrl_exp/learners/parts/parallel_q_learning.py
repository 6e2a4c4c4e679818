"""Q-learning from chunks, with a memory or without: λ-returns, several epochs of minibatches, no replay buffer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

from torch import Tensor

from bbrl_exp.arguments import AboveZero, Count, FromZeroToOne, Scheduled
from bbrl_exp.data.transitions import Transitions
from bbrl_exp.functional.returns import lambda_returns
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.options import EpsilonOptions, ReturnOptions, StepOptions, adam
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace

Experience = TypeVar("Experience")


class ParallelQLearning(EpsilonOptions, StepOptions, ReturnOptions, Generic[Experience]):
    """Learns the action values of a policy from each chunk, which is then thrown away."""

    anneal_learning_rate: bool = True
    max_grad_norm: Scheduled[AboveZero] | None = 10.0
    trace_decay: Scheduled[FromZeroToOne] = 0.65
    """λ of the returns."""
    n_epochs: Count = 4
    """passes over a chunk."""
    exploration_fraction: FromZeroToOne = 0.5
    seed: int = 0
    """root seed of the minibatches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reads = self.reads_with(self.policy)
        self._generator = numpy_generator(self.seed, "learner", "pqn")
        self._optimizer = self.flat_optimizer(self.policy.network.parameters(), adam(epsilon=1e-5))
        self._n_updates = 0

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        experience = self.collect(workspace, progress)
        self.begin_step(self._optimizer, progress)
        metrics: dict[str, float | Tensor] = {}
        for _ in range(self.n_epochs):
            for loss, q_mean, norm in self.epoch(experience):
                self._n_updates += 1
                metrics = {"losses/q": loss, "learner/q_mean": q_mean, "learner/gradient_norm": norm}
        metrics["learner/epsilon"] = self.explore(progress.env_steps, progress.length)
        metrics["learner/learning_rate"] = self._optimizer.learning_rate
        metrics["learner/updates"] = float(self._n_updates)
        return metrics

    @abstractmethod
    def collect(self, workspace: Workspace, progress: Progress) -> Experience:
        """What the new rows of a chunk teach."""

    def epoch(self, experience: Experience) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """One pass over a chunk: of each step the loss, the mean value and the norm of the gradient, detached."""
        for values, returns in self.minibatches(experience):
            loss = 0.5 * (values - returns).square().mean()
            norm = self._optimizer.step(loss)
            yield loss.detach(), values.detach().mean(), norm

    @abstractmethod
    def minibatches(self, experience: Experience) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over a chunk: values of the actions taken, by the network as it is then, and λ-returns, ``[N]``."""

    def returns_of(self, transitions: Transitions, best: Tensor) -> Tensor:
        """λ-returns of all pairs of rows, ``[T, B]``, for the values of the best actions, ``[T + 1, B]``."""
        return lambda_returns(
            transitions.rewards,
            best[:-1],
            best[1:],
            transitions.terminated,
            transitions.cut,
            self.discount,
            self.trace_decay,
        )
