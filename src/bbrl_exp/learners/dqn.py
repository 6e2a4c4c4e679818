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

import copy
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, smooth_l1_loss

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_0, AT_LEAST_1, FROM_0_TO_1, check_unused
from bbrl_exp.data.prioritised import PrioritisedReplay
from bbrl_exp.data.replay import Batch, ReplayBuffer
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.categorical import categorical_projection
from bbrl_exp.functional.losses import categorical_cross_entropy, double_q_values, q_target, quantile_huber
from bbrl_exp.functional.schedules import linear, linear_until
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.target_follower import TargetFollower
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace


class DQN(Learner):
    """Learns the action values of a policy from a replay buffer.

    Args:
        policy: the policy that chooses the actions; its ε is set here.
        double: whether Q chooses the action that Q' values.
        n_steps: rewards in a target.
        prioritised: whether transitions with large errors are drawn more often.
        priority_exponent: α of the priorities (0.6); with ``prioritised`` only.
        importance_exponent: initial β of the weights, which grows linearly to 1 (0.4); with ``prioritised`` only.
        loss: ``huber`` (κ = 1) or ``squared``, of the error of a value; a distribution has a loss of its own.
        learning_rate: of Adam.
        anneal_learning_rate: whether it falls linearly to zero over the run.
        max_grad_norm: largest norm of the gradient; None for no limit.
        discount: γ.
        replay_capacity: transitions that are kept.
        batch_size: transitions an update.
        learning_starts: environment steps before the first update.
        updates_per_step: updates per environment step after that, fractions included.
        target_period: environment steps after which Q' becomes Q; None for moving averages.
        target_rate: τ, by which Q' moves towards Q at every update; None for copies.
        initial_epsilon: ε in the beginning.
        final_epsilon: ε from ``exploration_fraction`` on.
        exploration_fraction: part of the run in which ε falls linearly.
        reward: variable of the rewards.
        seed: root seed of the draws from the buffer.

    Raises:
        ConfigurationError: a value out of its range, or options that contradict each other.
    """

    def __init__(
        self,
        policy: QPolicy,
        double: bool = True,
        n_steps: int = 1,
        prioritised: bool = False,
        priority_exponent: float | None = None,
        importance_exponent: float | None = None,
        loss: Literal["huber", "squared"] = "huber",
        learning_rate: float = 1e-3,
        anneal_learning_rate: bool = False,
        max_grad_norm: float | None = 10.0,
        discount: float = 0.99,
        replay_capacity: int = 100_000,
        batch_size: int = 64,
        learning_starts: int = 1000,
        updates_per_step: float = 0.5,
        target_period: int | None = None,
        target_rate: float | None = 0.005,
        initial_epsilon: float = 1.0,
        final_epsilon: float = 0.05,
        exploration_fraction: float = 0.2,
        reward: str = "env/reward",
        seed: int = 0,
    ) -> None:
        super().__init__()
        AT_LEAST_1.check(n_steps=n_steps, batch_size=batch_size)
        AT_LEAST_1.check(replay_capacity=replay_capacity)
        if batch_size > replay_capacity:
            raise ConfigurationError(f"batch_size={batch_size}: no more than replay_capacity={replay_capacity}")
        AT_LEAST_0.check(learning_starts=learning_starts)
        ABOVE_0.check(learning_rate=learning_rate, max_grad_norm=max_grad_norm, updates_per_step=updates_per_step)
        FROM_0_TO_1.check(discount=discount)
        FROM_0_TO_1.check(priority_exponent=priority_exponent, importance_exponent=importance_exponent)
        FROM_0_TO_1.check(initial_epsilon=initial_epsilon, final_epsilon=final_epsilon)
        FROM_0_TO_1.check(exploration_fraction=exploration_fraction)
        if not prioritised:
            check_unused(
                "prioritised=false", priority_exponent=priority_exponent, importance_exponent=importance_exponent
            )
        if loss not in ("huber", "squared"):
            raise ConfigurationError(f"loss='{loss}': must be one of huber, squared")
        if loss == "squared" and policy.network.atoms.kind != "none":
            raise ConfigurationError(f"loss='squared': has no effect on distribution='{policy.network.atoms.kind}'")
        self.policy = policy
        self.target_network = copy.deepcopy(policy.network).requires_grad_(False)
        self._follower = TargetFollower(
            self.target_network,
            policy.network,
            period=target_period,
            rate=target_rate,
            updates_per_step=updates_per_step,
        )
        self.reads = (*policy.reads, *policy.writes, reward, "env/terminated", "env/truncated", "env/done")
        self._double = double
        self._loss = mse_loss if loss == "squared" else smooth_l1_loss
        self._learning_rate = learning_rate
        self._anneals = anneal_learning_rate
        annealed = ("anneal_learning_rate",) if anneal_learning_rate else ()
        self.schedules = ("exploration_fraction", *annealed, *(("importance_exponent",) if prioritised else ()))
        self._batch_size = batch_size
        self._learning_starts = learning_starts
        self._updates_per_step = updates_per_step
        self._epsilons = (initial_epsilon, final_epsilon)
        self._exploration_fraction = exploration_fraction
        buffer = ReplayBuffer(
            replay_capacity, policy.reads, policy.writes, discount=discount, n_steps=n_steps, reward=reward
        )
        self._replay = (
            PrioritisedReplay(buffer, priority_exponent=0.6 if priority_exponent is None else priority_exponent)
            if prioritised
            else buffer
        )
        self._importance_exponent = 0.4 if importance_exponent is None else importance_exponent
        self._generator = numpy_generator(seed, "learner", "dqn")
        self._optimizer = FlatOptimizer(
            list(policy.network.parameters()),
            lambda parameters: torch.optim.Adam(parameters, learning_rate, fused=True),
            max_grad_norm,
        )
        self._n_updates = 0
        policy.exploration.set_epsilon(linear_until(*self._epsilons, 0.0, exploration_fraction))

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses transitions of more steps than the replay buffer keeps of an environment."""
        buffer = self._replay if isinstance(self._replay, ReplayBuffer) else self._replay.buffer
        n_kept = buffer.rows_kept(batch_size) - 1
        if buffer.n_steps > n_kept:
            raise ConfigurationError(
                f"n_steps={buffer.n_steps}: replay_capacity={buffer.capacity} keeps {n_kept} steps of each of "
                f"{batch_size} environments; must be at most {n_kept}"
            )

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        self._replay.put(workspace, progress.first_row)
        epsilon = linear_until(*self._epsilons, progress.fraction, self._exploration_fraction)
        self.policy.exploration.set_epsilon(epsilon)
        if self._anneals:
            self._optimizer.learning_rate = self._learning_rate * progress.remaining
        due = progress.updates_due(self._learning_starts, self._updates_per_step)
        last: tuple[Tensor, Tensor, Tensor] | None = None
        while self._n_updates < due and len(self._replay):
            last = self._learn(progress.fraction)
        if last is None:
            return {"learner/epsilon": epsilon}
        values, loss, norm = last
        return {
            "losses/q": loss.detach(),
            "learner/q_mean": values.detach().mean(),
            "learner/gradient_norm": norm,
            "learner/epsilon": epsilon,
            "learner/learning_rate": self._optimizer.learning_rate,
            "learner/updates": float(self._n_updates),
        }

    def _learn(self, fraction: float) -> tuple[Tensor, Tensor, Tensor]:
        """One update; gives the values of the actions taken, ``[N]``, the loss and the norm of its gradient."""
        if isinstance(self._replay, ReplayBuffer):
            batch = self._replay.sample(self._batch_size, self._generator)
        else:
            exponent = linear(self._importance_exponent, 1.0, fraction)
            batch = self._replay.sample(self._batch_size, self._generator, importance_exponent=exponent)
        values, loss, errors = self.loss(batch)
        norm = self._optimizer.step(loss)
        self._n_updates += 1
        self._follower.follow(self._n_updates)
        if isinstance(self._replay, PrioritisedReplay) and errors is not None:
            self._replay.update(batch.indexes, errors)
        return values, loss, norm

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values of the actions taken, ``[N]``, the loss, a scalar, and the errors by which they are drawn, ``[N]``.

        A value without priorities has no errors: its mean loss is one operation.
        """
        network, atoms = self.policy.network, self.policy.network.atoms
        indexes = self.policy.exploration.indexes(batch.actions[0])
        if atoms.kind == "none":
            values = network.values(batch.observations).gather(1, indexes[:, None]).squeeze(1)
            target = self.value_target(batch)
            if isinstance(self._replay, ReplayBuffer):
                return values, self._loss(values, target), None
            losses = self._loss(values, target, reduction="none")
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
        if self._double:
            best = double_q_values(self.policy.network.values(batch.next_observations), next_values)
        else:
            best = next_values.amax(dim=1)
        return q_target(batch.rewards, batch.terminated, batch.discounts, best)

    @torch.no_grad()
    def distribution_target(self, batch: Batch) -> Tensor:
        """Probabilities or quantiles that the returns of the actions taken should have, ``[N, M]``."""
        atoms = self.policy.network.atoms
        outputs = self.target_network(batch.next_observations)
        selecting = self.policy.network.values(batch.next_observations) if self._double else atoms.means(outputs)
        best = _of_actions(outputs, selecting.argmax(dim=1))
        discounts = batch.discounts.masked_fill(batch.terminated, 0.0)[:, None]
        if atoms.kind == "quantile":
            return batch.rewards[:, None] + discounts * best
        locations = batch.rewards[:, None] + discounts * atoms.support(best.device)
        return categorical_projection(locations.to(best.dtype), best.softmax(1), atoms.low, atoms.high)


def _of_actions(outputs: Tensor, indexes: Tensor) -> Tensor:
    """The outputs ``[N, M]`` of one action each, from ``[N, A, M]`` and ``[N]``."""
    return outputs.gather(1, indexes[:, None, None].expand(-1, 1, outputs.shape[2])).squeeze(1)
