"""Deep Q-learning with a memory (Hausknecht & Stone, 2015; Kapturowski et al., 2019, "R2D2").

Sequences of rows are drawn from a replay buffer together with the states that the recurrent network had when it acted.
From the stored state the first ``burn_in`` rows bring the state up to date with the present network (Kapturowski et
al., section 3); the values of the actions taken in the rows after them move towards

    r_1 + γ r_2 + … + γⁿ⁻¹ r_n + γⁿ Q'(s', argmax_a' Q(s', a'))

where Q' is a target network that follows Q slowly, unrolled over the same rows. Steps n are fewer where the episode is
cut or the sequence ends; the future is worth nothing where the episode has terminated. A sequence may hold several
episodes: the state is zeroed where one begins, and the pair of rows between two is masked.

Deviations from R2D2: sequences are drawn uniformly, begin at any row and may cross the end of an episode; values are
not rescaled; one policy acts, with one ε; the previous action and reward are no inputs; the loss is that of Huber; a
truncated episode keeps its bootstrap.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_0, AT_LEAST_1, FROM_0_TO_1
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.data.transitions import align
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.returns import n_step_returns
from bbrl_exp.functional.schedules import linear_until
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.target_follower import TargetFollower
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.memory import INITIAL_STATE
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace


class RecurrentDQN(Learner):
    """Learns the action values of a recurrent policy from a replay buffer of sequences.

    Args:
        policy: the policy that chooses the actions; its ε is set here.
        double: whether Q chooses the action that Q' values.
        n_steps: rewards in a target.
        burn_in: rows of a sequence that only bring the state up to date.
        sequence_length: transitions of a sequence that are learned from.
        batch_size: sequences an update.
        learning_rate: of Adam.
        anneal_learning_rate: whether it falls linearly to zero over the run.
        max_grad_norm: largest norm of the gradient; None for no limit.
        discount: γ.
        replay_capacity: transitions that are kept.
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
        policy: RecurrentQPolicy,
        double: bool = True,
        n_steps: int = 1,
        burn_in: int = 4,
        sequence_length: int = 16,
        batch_size: int = 16,
        learning_rate: float = 1e-3,
        anneal_learning_rate: bool = False,
        max_grad_norm: float | None = 10.0,
        discount: float = 0.99,
        replay_capacity: int = 100_000,
        learning_starts: int = 1000,
        updates_per_step: float = 0.125,
        target_period: int | None = None,
        target_rate: float | None = 0.01,
        initial_epsilon: float = 1.0,
        final_epsilon: float = 0.05,
        exploration_fraction: float = 0.2,
        reward: str = "env/reward",
        seed: int = 0,
    ) -> None:
        super().__init__()
        AT_LEAST_1.check(n_steps=n_steps, sequence_length=sequence_length, batch_size=batch_size)
        AT_LEAST_1.check(replay_capacity=replay_capacity)
        AT_LEAST_0.check(burn_in=burn_in, learning_starts=learning_starts)
        ABOVE_0.check(learning_rate=learning_rate, max_grad_norm=max_grad_norm, updates_per_step=updates_per_step)
        FROM_0_TO_1.check(discount=discount)
        FROM_0_TO_1.check(initial_epsilon=initial_epsilon, final_epsilon=final_epsilon)
        FROM_0_TO_1.check(exploration_fraction=exploration_fraction)
        if n_steps > sequence_length:
            raise ConfigurationError(f"n_steps={n_steps}: no more than sequence_length={sequence_length}")
        self.policy = policy
        self.target_network = copy.deepcopy(policy.network).requires_grad_(False)
        self._follower = TargetFollower(
            self.target_network,
            policy.network,
            period=target_period,
            rate=target_rate,
            updates_per_step=updates_per_step,
        )
        memory = policy.network.memory
        self.reads = (*policy.reads, *policy.writes, reward, "env/terminated", "env/truncated", "env/done")
        self._observations = memory.features.names
        self._state = memory.state_name
        self._double = double
        self._n_steps = n_steps
        self._burn_in = burn_in
        self._n_rows = burn_in + sequence_length + 1
        self._batch_size = batch_size
        self._learning_rate = learning_rate
        self._anneals = anneal_learning_rate
        annealed = ("anneal_learning_rate",) if anneal_learning_rate else ()
        self.schedules = ("exploration_fraction", *annealed)
        self._discount = discount
        self._learning_starts = learning_starts
        self._updates_per_step = updates_per_step
        self._epsilons = (initial_epsilon, final_epsilon)
        self._exploration_fraction = exploration_fraction
        self._reward = reward
        self._replay = ReplayBuffer(
            replay_capacity,
            self._observations,
            (policy.action,),
            discount=discount,
            extras=(self._state,),
            reward=reward,
        )
        self._generator = numpy_generator(seed, "learner", "recurrent_dqn")
        self._optimizer = FlatOptimizer(
            list(policy.network.parameters()),
            lambda parameters: torch.optim.Adam(parameters, learning_rate, fused=True),
            max_grad_norm,
        )
        self._n_updates = 0
        policy.exploration.set_epsilon(linear_until(*self._epsilons, 0.0, exploration_fraction))

    def check_chunks(self, steps_per_chunk: int, batch_size: int) -> None:
        """Refuses a replay buffer that holds no whole sequence of an environment."""
        if self._replay.rows_kept(batch_size) < self._n_rows:
            n_transitions = self._n_rows - 1
            raise ConfigurationError(
                f"replay_capacity={self._replay.capacity}: too few for a sequence of burn_in + sequence_length = "
                f"{n_transitions} transitions in each of {batch_size} environments; must be at least "
                f"{(n_transitions - 1) * batch_size + 1}"
            )

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        self._replay.put(workspace, progress.first_row)
        epsilon = linear_until(*self._epsilons, progress.fraction, self._exploration_fraction)
        self.policy.exploration.set_epsilon(epsilon)
        if self._anneals:
            self._optimizer.learning_rate = self._learning_rate * progress.remaining
        due = progress.updates_due(self._learning_starts, self._updates_per_step)
        metrics: dict[str, float | Tensor] = {}
        is_long_enough = progress.env_steps // workspace.batch_size() >= self._n_rows - 1
        while is_long_enough and self._n_updates < due:
            metrics = self._learn()
        if metrics:
            metrics["learner/updates"] = float(self._n_updates)
            metrics["learner/learning_rate"] = self._optimizer.learning_rate
        return {**metrics, "learner/epsilon": epsilon}

    def _learn(self) -> dict[str, float | Tensor]:
        """One update."""
        values, returns, valid = self.sequences(
            self._replay.sample_sequences(self._batch_size, self._n_rows, self._generator)
        )
        losses = smooth_l1_loss(values, returns, reduction="none").masked_fill(~valid, 0.0)
        n_valid = valid.sum()
        loss = losses.sum() / n_valid.clamp(min=1)
        norm = self._optimizer.step(loss)
        self._n_updates += 1
        self._follower.follow(self._n_updates)
        return {
            "losses/q": loss.detach(),
            "learner/q_mean": values.detach().masked_fill(~valid, 0.0).sum() / n_valid.clamp(min=1),
            "learner/gradient_norm": norm,
        }

    def sequences(self, recorded: Workspace) -> tuple[Tensor, Tensor, Tensor]:
        """What the rows after the burn-in but the last teach: values of the actions taken, their targets, validity.

        Args:
            recorded: sequences of L rows, with the states that the policy had in them.

        Returns:
            Float32, float32 without gradient and bool, all ``[L - burn_in - 1, N]``.
        """
        observations = [recorded[name] for name in self._observations]
        state, starts = recorded.get(self._state, 0), recorded[INITIAL_STATE]
        online = self.policy.network.values(observations, state, starts, self._burn_in)
        transitions = align(recorded, self._observations, (self.policy.action,), self._burn_in, self._reward)
        with torch.no_grad():
            target = self.target_network.values(observations, state, starts, self._burn_in)[1:]
            best = (online[1:] if self._double else target).argmax(dim=2, keepdim=True)
            returns = n_step_returns(
                transitions.rewards,
                target.gather(2, best).squeeze(2),
                transitions.terminated,
                transitions.cut,
                self._discount,
                self._n_steps,
            )
        indexes = self.policy.exploration.indexes(transitions.actions[0])
        return online[:-1].gather(2, indexes.unsqueeze(2)).squeeze(2), returns, transitions.valid
