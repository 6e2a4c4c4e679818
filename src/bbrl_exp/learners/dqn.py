"""Deep Q-learning (Mnih et al., 2015) and what has been added to it.

Transitions are kept in a replay buffer. For batches of them, drawn again and again, the values Q of the actions taken
move towards

    r + γ max_a' Q'(s', a')                          (Mnih et al., 2015, algorithm 1)
    r + γ Q'(s', argmax_a' Q(s', a'))                double        (van Hasselt et al., 2016, "Double DQN")
    r_1 + γ r_2 + … + γⁿ⁻¹ r_n + γⁿ …                n_steps       (Sutton & Barto, 2018, equation 7.1)

where Q' is a target network that follows Q slowly, and s' is worth nothing where the episode has terminated.

    prioritised       transitions are drawn by their last error, and weighted    (Schaul et al., 2016, section 3)
    policy.dueling    Q is the sum of a value and of advantages                   (Wang et al., 2016, equation 9)
    policy.distribution
        categorical   the target is a distribution over fixed returns, projected  (Bellemare et al., 2017, algorithm 1)
        quantile      the target is a set of returns, met by quantile regression  (Dabney et al., 2018, algorithm 1)

Deviations from the papers: Adam everywhere; the learning rate may fall linearly to zero; the target network may follow
by moving averages (Lillicrap et al., 2016); the gradient is clipped by its norm, as Wang et al. do; the streams of a
dueling network share all hidden layers; next to the newest row an n-step target has fewer steps; it is not corrected
for actions that were not greedy, and fixed returns are prioritised by their divergence from the target, KL(target ‖ Q)
(both as in Hessel et al., 2018), quantiles by the error of their mean; a truncated episode keeps its bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, smooth_l1_loss

from bbrl_exp.arguments import AboveZeroToAMillion, Count, FromZeroToOne, Scheduled, check_unused
from bbrl_exp.compilation.compiler import Compiler
from bbrl_exp.data.prioritised import PrioritisedReplay
from bbrl_exp.data.replay import Batch, ReplayBuffer
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.losses import (
    categorical_cross_entropy,
    categorical_projection,
    double_q_values,
    q_target,
    quantile_huber,
)
from bbrl_exp.functional.schedules import linear
from bbrl_exp.learners.compiled.batches import part_of, tensors_of
from bbrl_exp.learners.compiled.updates import MOST_UPDATES, CompiledUpdates, updates_per_graph
from bbrl_exp.learners.parts.replayed_q_learning import Learned, ReplayedQLearning
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.seeding import numpy_generator


class DQN(ReplayedQLearning):
    """Learns the action values of a policy from a replay buffer, or distributions of returns.

    Raises:
        ConfigurationError: a value out of its range, or options that contradict each other.
    """

    policy: QPolicy = field(kw_only=False)
    prioritised: bool = False
    """whether transitions with large errors are drawn more often."""
    priority_exponent: FromZeroToOne | None = None
    """α of the priorities (0.6); with ``prioritised`` only."""
    importance_exponent: Scheduled[FromZeroToOne] | None = None
    """initial β of the weights, which grows linearly to 1 (0.4), or a schedule of β; with ``prioritised`` only."""
    loss: Literal["huber", "squared"] = "huber"
    """``huber`` (κ = 1) or ``squared``, of the error of a value; a distribution has its own loss."""
    batch_size: Count = 64
    updates_per_step: AboveZeroToAMillion = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.target_network = self.target_of(self.policy.network)
        self.check_batch_size()
        if not self.prioritised:
            check_unused(
                "prioritised=false",
                priority_exponent=self.priority_exponent,
                importance_exponent=self.importance_exponent,
            )
        kind = self.policy.network.atoms.kind
        if self.loss not in ("huber", "squared"):
            raise ConfigurationError(f"loss='{self.loss}': must be one of huber, squared")
        if self.loss == "squared" and kind != "none":
            raise ConfigurationError(f"loss='squared': has no effect on distribution='{kind}'")
        self._value_loss = mse_loss if self.loss == "squared" else smooth_l1_loss
        if self.prioritised and "importance_exponent" not in self._scheduled:
            self.schedules = (*self.schedules, "importance_exponent")
        buffer = ReplayBuffer(
            self.replay_capacity,
            self.policy.reads,
            self.policy.writes,
            discount=self.discount,
            n_steps=self.n_steps,
            reward=self.reward,
        )
        exponent = 0.6 if self.priority_exponent is None else self.priority_exponent
        self._replay = PrioritisedReplay(buffer, priority_exponent=exponent) if self.prioritised else buffer
        self._generator = numpy_generator(self.seed, "learner", "dqn")

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses transitions of more steps than the replay buffer keeps of an environment."""
        buffer = self._replay if isinstance(self._replay, ReplayBuffer) else self._replay.buffer
        n_kept = buffer.rows_kept(batch_size) - 1
        if buffer.n_steps > n_kept:
            raise ConfigurationError(
                f"n_steps={buffer.n_steps}: replay_capacity={buffer.capacity} keeps {n_kept} steps of each of "
                f"{batch_size} environments; must be at most {n_kept}"
            )

    def compile_updates(self, compiler: Compiler, steps_per_chunk: int, batch_size: int) -> None:
        # Priorities are those of the update before: one update in a graph.
        n_due = 1.0 if self.prioritised else self.updates_per_step * steps_per_chunk * batch_size
        # Between two copies of the target network.
        most = MOST_UPDATES if self.target_period is None else self._follower.updates_per_copy
        numbers = ("_optimizer.max_grad_norm", "_follower.rate")
        at_once, due = updates_per_graph(n_due, most), self.updates_per_step
        self.compiled = CompiledUpdates(self, compiler, numbers, at_once, per_env_step=due)

    def learn_at_once(self, compiled: CompiledUpdates, fraction: float) -> Learned:
        n = compiled.at_once
        with compiled.drawing("q", n, self._generator):
            batch = self._draw(n * self.batch_size, fraction)

            def body(index: int, given: Sequence[Tensor]) -> list[Tensor]:
                values, loss, errors = self.loss_of(part_of(batch, given, index, self.batch_size))
                norm = self._optimizer.step(loss)
                if self._follower.rate is not None:
                    self._follower.follow(index)
                return [loss, norm, values.mean(), *([] if errors is None else [errors])]

            loss, norm, q_mean, *errors = compiled("q", n, body, tensors_of(batch))
        self._n_updates += n
        if self._follower.rate is None:
            self._follower.follow(self._n_updates)
        if isinstance(self._replay, PrioritisedReplay):
            self._replay.update(batch.indexes, errors[0])
        return Learned(loss, norm, q_mean)

    def _draw(self, n_transitions: int, fraction: float) -> Batch:
        if isinstance(self._replay, ReplayBuffer):
            return self._replay.sample(n_transitions, self._generator)
        exponent = 0.4 if self.importance_exponent is None else self.importance_exponent
        if "importance_exponent" not in self._scheduled:
            exponent = linear(exponent, 1.0, fraction)
        return self._replay.sample(n_transitions, self._generator, importance_exponent=exponent)

    def learn(self, fraction: float) -> Learned:
        batch = self._draw(self.batch_size, fraction)
        values, loss, errors = self.loss_of(batch)
        norm = self._optimizer.step(loss)
        if isinstance(self._replay, PrioritisedReplay) and errors is not None:
            self._replay.update(batch.indexes, errors)
        return Learned(loss, norm, values)

    def loss_of(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values of the actions taken, ``[N]``, the loss, a scalar, and the errors by which they are drawn, ``[N]``.

        A value without priorities has no errors: its mean loss is one operation.
        """
        network, atoms = self.policy.network, self.policy.network.atoms
        indexes = self.policy.exploration.indexes(batch.actions[0])
        if atoms.kind == "none":
            values = network.values(batch.observations).gather(1, indexes[:, None]).squeeze(1)
            target = self.value_target(batch)
            if isinstance(self._replay, ReplayBuffer):
                return values, self._value_loss(values, target), None
            losses = self._value_loss(values, target, reduction="none")
            return values, (losses * batch.weights).mean(), values.detach() - target
        taken, target = _of_actions(network(batch.observations), indexes), self.distribution_target(batch)
        values = atoms.means(taken)
        if atoms.kind == "categorical":
            losses = categorical_cross_entropy(taken.log_softmax(1), target)
            errors = losses.detach() + torch.xlogy(target, target).sum(dim=1)
        else:
            losses = quantile_huber(taken, target)
            errors = values.detach() - target.mean(dim=1)
        return values, (losses * batch.weights).mean(), errors

    @torch.no_grad()
    def value_target(self, batch: Batch) -> Tensor:
        """What the actions taken should be worth, ``[N]``."""
        next_values = self.target_network.values(batch.next_observations)
        if self.double:
            best = double_q_values(self.policy.network.values(batch.next_observations), next_values)
        else:
            best = next_values.amax(dim=1)
        return q_target(batch.rewards, batch.terminated, batch.discounts, best)

    @torch.no_grad()
    def distribution_target(self, batch: Batch) -> Tensor:
        """Probabilities or quantiles that the returns of the actions taken should have, ``[N, M]``."""
        atoms = self.policy.network.atoms
        outputs = self.target_network(batch.next_observations)
        selecting = self.policy.network.values(batch.next_observations) if self.double else atoms.means(outputs)
        best = _of_actions(outputs, selecting.argmax(dim=1))
        discounts = batch.discounts.masked_fill(batch.terminated, 0.0)[:, None]
        if atoms.kind == "quantile":
            return batch.rewards[:, None] + discounts * best
        locations = batch.rewards[:, None] + discounts * atoms.support(best.device)
        return categorical_projection(locations.to(best.dtype), best.softmax(1), atoms.low, atoms.high)


def _of_actions(outputs: Tensor, indexes: Tensor) -> Tensor:
    """The outputs ``[N, M]`` of one action each, from ``[N, A, M]`` and ``[N]``."""
    return outputs.gather(1, indexes[:, None, None].expand(-1, 1, outputs.shape[2])).squeeze(1)
