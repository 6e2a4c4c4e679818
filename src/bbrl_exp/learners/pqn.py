"""Parallelised Q-network (Gallici et al., 2024, arXiv:2407.04811): Q-learning without a buffer or a target network.

Several environments run side by side. Each chunk of experience is used for several epochs of minibatches, in which the
values of the actions taken move towards the λ-return of the greedy policy (Peng & Williams, 1996)

    G_t = r_t + γ ((1 − λ) max_a Q(s_{t+1}, a) + λ G_{t+1})

computed once, with the network as it was; at the end of the chunk G_t = r_t + γ max_a Q(s_{t+1}, a). What keeps this
stable is a network with layer normalisation.

Deviations from the paper: where an episode is truncated, G_t is the same as at the end of the chunk; Adam takes the
place of rectified Adam.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbrl_exp.arguments import ABOVE_0, AT_LEAST_1, FROM_0_TO_1
from bbrl_exp.data.minibatches import minibatches
from bbrl_exp.data.transitions import align
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.returns import lambda_returns
from bbrl_exp.functional.schedules import linear_until
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.nn.flat_optimizer import FlatOptimizer
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace


class PQN(Learner):
    """Learns the action values of a policy from each chunk, which is then thrown away.

    Args:
        policy: the policy that chooses the actions; its ε is set here. Its network should have ``layer_norm``.
        learning_rate: of Adam.
        anneal_learning_rate: whether it falls linearly to zero over the run.
        max_grad_norm: largest norm of the gradient; None for no limit.
        discount: γ.
        trace_decay: λ of the returns.
        n_epochs: passes over a chunk.
        minibatch_size: most transitions of an update.
        initial_epsilon: ε in the beginning.
        final_epsilon: ε from ``exploration_fraction`` on.
        exploration_fraction: part of the run in which ε falls linearly.
        reward: variable of the rewards.
        seed: root seed of the minibatches.

    Raises:
        ConfigurationError: a value out of its range, or a policy that learns distributions.
    """

    def __init__(
        self,
        policy: QPolicy,
        learning_rate: float = 1e-3,
        anneal_learning_rate: bool = True,
        max_grad_norm: float | None = 10.0,
        discount: float = 0.99,
        trace_decay: float = 0.65,
        n_epochs: int = 4,
        minibatch_size: int = 256,
        initial_epsilon: float = 1.0,
        final_epsilon: float = 0.05,
        exploration_fraction: float = 0.5,
        reward: str = "env/reward",
        seed: int = 0,
    ) -> None:
        super().__init__()
        AT_LEAST_1.check(n_epochs=n_epochs, minibatch_size=minibatch_size)
        ABOVE_0.check(learning_rate=learning_rate, max_grad_norm=max_grad_norm)
        FROM_0_TO_1.check(discount=discount, trace_decay=trace_decay)
        FROM_0_TO_1.check(initial_epsilon=initial_epsilon, final_epsilon=final_epsilon)
        FROM_0_TO_1.check(exploration_fraction=exploration_fraction)
        kind = policy.network.atoms.kind
        if kind != "none":
            raise ConfigurationError(f"PQN learns no distributions: policy.distribution='{kind}', possible: 'none'")
        self.policy = policy
        self.reads = (*policy.reads, *policy.writes, reward, "env/terminated", "env/truncated", "env/done")
        self._learning_rate = learning_rate
        self._anneals = anneal_learning_rate
        annealed = ("anneal_learning_rate",) if anneal_learning_rate else ()
        self.schedules = ("exploration_fraction", *annealed)
        self._discount = discount
        self._trace_decay = trace_decay
        self._n_epochs = n_epochs
        self._minibatch_size = minibatch_size
        self._epsilons = (initial_epsilon, final_epsilon)
        self._exploration_fraction = exploration_fraction
        self._reward = reward
        self._generator = numpy_generator(seed, "learner", "pqn")
        self._optimizer = FlatOptimizer(
            policy.network.parameters(),
            lambda parameters: torch.optim.Adam(parameters, learning_rate, eps=1e-5, fused=True),
            max_grad_norm,
        )
        self._n_updates = 0
        policy.exploration.set_epsilon(linear_until(*self._epsilons, 0.0, exploration_fraction))

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        observations, indexes, returns = self.samples(workspace, progress)
        if self._anneals:
            self._optimizer.learning_rate = self._learning_rate * progress.remaining
        metrics: dict[str, float | Tensor] = {}
        for _ in range(self._n_epochs if len(returns) else 0):
            for part in minibatches(len(returns), self._minibatch_size, self._generator, returns.device):
                rows = [leaf.index_select(0, part) for leaf in observations]
                values = self.policy.network.values(rows).gather(1, indexes[part, None]).squeeze(1)
                loss = 0.5 * (values - returns[part]).square().mean()
                norm = self._optimizer.step(loss)
                self._n_updates += 1
                metrics = {
                    "losses/q": loss.detach(),
                    "learner/q_mean": values.detach().mean(),
                    "learner/gradient_norm": norm,
                }
        epsilon = linear_until(*self._epsilons, progress.fraction, self._exploration_fraction)
        self.policy.exploration.set_epsilon(epsilon)
        metrics["learner/epsilon"] = epsilon
        metrics["learner/learning_rate"] = self._optimizer.learning_rate
        metrics["learner/updates"] = float(self._n_updates)
        return metrics

    @torch.no_grad()
    def samples(self, workspace: Workspace, progress: Progress) -> tuple[list[Tensor], Tensor, Tensor]:
        """The N valid transitions of the new rows: observations, positions of the actions and λ-returns.

        Returns:
            One tensor ``[N, *shape]`` a leaf, int64 ``[N]``, float32 ``[N]``.
        """
        transitions = align(workspace, self.policy.reads, self.policy.writes, progress.first_row, self._reward)
        n_steps, batch_size = transitions.rewards.shape
        rows = [leaf[progress.first_row :].flatten(0, 1) for leaf in self.policy.network.features.read(workspace)]
        best = self.policy.network.values(rows).amax(dim=1).view(n_steps + 1, batch_size)
        returns = lambda_returns(
            transitions.rewards,
            best[:-1],
            best[1:],
            transitions.terminated,
            transitions.cut,
            self._discount,
            self._trace_decay,
        )
        valid = transitions.valid.flatten().nonzero().squeeze(1)
        actions = transitions.actions[0].flatten()
        return (
            [leaf.flatten(0, 1)[valid] for leaf in transitions.observations],
            self.policy.exploration.indexes(actions[valid]),
            returns.flatten()[valid],
        )
