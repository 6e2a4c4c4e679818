"""Deep Q-learning of K jobs that learn together, each from its own replay buffer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, smooth_l1_loss

from bbrl_exp.data.prioritised import PrioritisedReplay
from bbrl_exp.data.replay import Batch
from bbrl_exp.functional.losses import (
    categorical_cross_entropy,
    categorical_projection,
    q_target,
    quantile_huber,
)
from bbrl_exp.functional.schedules import completes_period
from bbrl_exp.learners.dqn import DQN
from bbrl_exp.learners.learner import Metrics
from bbrl_exp.stacked.learning import Chunks, metrics_of, options_at
from bbrl_exp.stacked.parameters import LearningStack, ParameterStack
from bbrl_exp.stacked.q_networks import StackedQNetwork, of_actions

# Updates whose batches are drawn at once: the buffers do not change in between.
_MOST_AT_ONCE = 16


class StackedBatch(NamedTuple):
    """Batches of N transitions of each of K jobs: the fields of :class:`~bbrl_exp.data.batch.Batch`, ``[K, N, …]``."""

    observations: tuple[Tensor, ...]
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    next_observations: tuple[Tensor, ...]
    discounts: Tensor
    weights: Tensor


class Update(NamedTuple):
    """One update: the loss, the norm of the gradient and the mean of the values of each job, ``[K]``."""

    loss: Tensor
    norm: Tensor
    q_mean: Tensor


class StackedDQN:
    """K times :class:`~bbrl_exp.learners.dqn.DQN`.

    Args:
        learners: built alike.

    Attributes:
        policy_mlp: the networks of the policies.
    """

    def __init__(self, learners: Sequence[DQN]) -> None:
        self._learners = learners
        self._first = first = learners[0]
        self._stack = LearningStack([learner._optimizer for learner in learners])
        self._network = StackedQNetwork(first.policy.network, self._stack.of)
        self.policy_mlp = self._network.mlp
        # Those that learn, in the order in which they are laid out; a target is built alike.
        order = {id(parameter): index for index, parameter in enumerate(first.policy.network.parameters())}
        places = [order[id(parameter)] for parameter in first._optimizer._parameters]
        self._targets = ParameterStack([_placed(learner.target_network, places) for learner in learners])
        self._target_network = StackedQNetwork(first.target_network, self._targets.of)
        self._kind = first.policy.network.atoms.kind

    def learn(self, chunks: Chunks) -> dict[int, Metrics]:
        """See :class:`~bbrl_exp.stacked.learning.StackedLearner`."""
        progress = chunks.progress
        metrics = options_at(self._learners, chunks)
        due = [0] * len(self._learners)

        def begin(job: int) -> None:
            own = self._learners[job]
            own._replay.put(chunks.workspaces[job], progress.first_row)
            metrics[job]["learner/epsilon"] = own.explore(progress.env_steps, progress.length)
            own.begin_step(own._optimizer, progress)
            own._follower.rate = own.target_rate
            due[job] = max(own.updates_due(progress) - own._n_updates, 0) if own.can_learn() else 0

        chunks.each(begin)
        learning = [job for job in chunks.jobs if due[job]]
        last: Update | None = None
        while active := [job for job in chunks.jobs if due[job]]:
            n_updates = min(due[job] for job in active)
            for update in self._updates(chunks, active, n_updates):
                last = update if last is None or len(active) == len(due) else _merged(update, last, active)
            for job in active:
                due[job] -= n_updates
        if last is not None:
            self._stack.store()
            self._targets.store()
            found = {"losses/q": last.loss, "learner/q_mean": last.q_mean, "learner/gradient_norm": last.norm}
            for job, values in metrics_of(found, learning).items():
                own = self._learners[job]
                metrics[job] |= values
                metrics[job]["learner/learning_rate"] = own._optimizer.learning_rate
                metrics[job]["learner/updates"] = float(own._n_updates)
        return {job: metrics[job] for job in chunks.jobs}

    def _updates(self, chunks: Chunks, jobs: Sequence[int], n_updates: int) -> Iterator[Update]:
        """Updates of ``jobs``, one after the other."""
        while n_updates:
            at_once = 1 if self._first.prioritised else min(n_updates, _MOST_AT_ONCE)
            # As many numbers in the same order are drawn for several batches at once as for one after the other.
            batches: dict[int, Batch] = {}

            def draw(job: int, drawn: dict[int, Batch] = batches, n: int = at_once * self._first.batch_size) -> None:
                drawn[job] = self._learners[job]._draw(n, chunks.progress.fraction)

            jobs = chunks.each(draw, jobs)
            if not jobs:
                return
            for batch in _stacked(batches, jobs, len(self._learners), at_once, self._first.policy.exploration.start):
                values, losses, errors = self._losses(batch)
                norms = self._stack.step(losses, jobs)

                def update(job: int, drawn: dict[int, Batch] = batches, errors: Tensor = errors) -> None:
                    replay = self._learners[job]._replay
                    assert isinstance(replay, PrioritisedReplay)
                    replay.update(drawn[job].indexes, errors[job])

                if self._first.prioritised:
                    jobs = chunks.each(update, jobs)
                for job in jobs:
                    self._learners[job].__dict__["_n_updates"] += 1  # modules set attributes slowly
                self._follow(jobs)
                yield Update(losses.detach(), norms, values.detach().mean(dim=1))
            n_updates -= at_once

    def _losses(self, batch: StackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Values of the actions taken ``[K, N]``, losses ``[K]``, and errors by which batches are drawn ``[K, N]``."""
        atoms = self._first.policy.network.atoms
        indexes = self._first.policy.exploration.indexes(batch.actions)
        taken = of_actions(self._network(batch.observations), indexes)
        values = atoms.means(taken)
        if self._kind == "none":
            target = self._value_target(batch)
            loss_of = mse_loss if self._first.loss == "squared" else smooth_l1_loss
            losses, errors = loss_of(values, target, reduction="none"), values.detach() - target
        else:
            taken = taken.flatten(0, 1)
            target = self._distribution_target(batch)
            if self._kind == "categorical":
                losses = categorical_cross_entropy(taken.log_softmax(1), target)
                errors = losses.detach() + torch.xlogy(target, target).sum(dim=1)
            else:
                losses = quantile_huber(taken, target)
                errors = values.detach().flatten() - target.mean(dim=1)
            losses, errors = losses.view_as(values), errors.view_as(values)
        return values, (losses * batch.weights).mean(dim=1), errors

    @torch.no_grad()
    def _value_target(self, batch: StackedBatch) -> Tensor:
        """What the actions taken should be worth, ``[K, N]``."""
        next_values = self._target_network.values(batch.next_observations)
        if self._first.double:
            best = of_actions(next_values, self._network.values(batch.next_observations).argmax(dim=2))
        else:
            best = next_values.amax(dim=2)
        flat = (batch.rewards, batch.terminated, batch.discounts, best)
        rewards, terminated, discounts, best = (each.flatten() for each in flat)
        return q_target(rewards, terminated, discounts, best).view_as(batch.rewards)

    @torch.no_grad()
    def _distribution_target(self, batch: StackedBatch) -> Tensor:
        """Probabilities or quantiles that the returns of the actions taken should have, ``[K · N, M]``."""
        atoms = self._first.policy.network.atoms
        outputs = self._target_network(batch.next_observations)
        double = self._first.double
        selecting = self._network.values(batch.next_observations) if double else atoms.means(outputs)
        best = of_actions(outputs, selecting.argmax(dim=2)).flatten(0, 1)
        rewards = batch.rewards.flatten()[:, None]
        discounts = batch.discounts.masked_fill(batch.terminated, 0.0).flatten()[:, None]
        if self._kind == "quantile":
            return rewards + discounts * best
        locations = rewards + discounts * atoms.support(best.device)
        return categorical_projection(locations.to(best.dtype), best.softmax(1), atoms.low, atoms.high)

    @torch.no_grad()
    def _follow(self, jobs: Sequence[int]) -> None:
        """Moves the target networks of ``jobs`` after an update, each by its rule."""
        by_rate: dict[float, list[int]] = {}
        for job in jobs:
            own = self._learners[job]
            if own._follower.rate is not None:
                by_rate.setdefault(own._follower.rate, []).append(job)
            elif completes_period(own._n_updates, own._follower.updates_per_copy):
                self._targets.rows[job].copy_(self._stack.rows[job])
        for rate, together in by_rate.items():
            targets, sources = ([stack.rows[job] for job in together] for stack in (self._targets, self._stack))
            torch._foreach_lerp_(targets, sources, rate)


def _placed(network: nn.Module, places: Sequence[int]) -> list[nn.Parameter]:
    parameters = list(network.parameters())
    return [parameters[place] for place in places]


def _merged(update: Update, last: Update, jobs: Sequence[int]) -> Update:
    """``update`` for ``jobs``, and ``last`` for the others."""
    index = torch.tensor(jobs)
    return Update(*(old.index_copy(0, index, new[index]) for new, old in zip(update, last, strict=True)))


def _stacked(
    drawn: Mapping[int, Batch], jobs: Sequence[int], n_jobs: int, n_batches: int, action: int
) -> Iterator[StackedBatch]:
    """The batches of ``jobs``, ``n_batches`` in each, one by one; jobs that take no part have zeros, and ``action``."""
    batches = [drawn[job] for job in jobs]

    def stacked(values: Sequence[Tensor], rest: int = 0) -> Tensor:
        together = torch.stack(list(values))
        whole = together.view(len(jobs), n_batches, -1, *together.shape[2:]).transpose(0, 1)
        if len(jobs) == n_jobs:
            return whole.contiguous()
        block = whole.new_full((n_batches, n_jobs, *whole.shape[2:]), rest)
        return block.index_copy_(1, torch.tensor(jobs), whole)

    observations = [stacked(leaf) for leaf in zip(*(batch.observations for batch in batches), strict=True)]
    following = [stacked(leaf) for leaf in zip(*(batch.next_observations for batch in batches), strict=True)]
    actions = stacked([batch.actions[0] for batch in batches], action)
    rewards, terminated, discounts, weights = (
        stacked([getattr(batch, name) for batch in batches])
        for name in ("rewards", "terminated", "discounts", "weights")
    )
    for index in range(n_batches):
        yield StackedBatch(
            tuple(leaf[index] for leaf in observations),
            actions[index],
            rewards[index],
            terminated[index],
            tuple(leaf[index] for leaf in following),
            discounts[index],
            weights[index],
        )
