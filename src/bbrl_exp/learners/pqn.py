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

from dataclasses import field

import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZero, Count, FromZeroToOne, Scheduled
from bbrl_exp.data.transitions import align, minibatches
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.returns import lambda_returns
from bbrl_exp.learners.learner import Metrics, Progress
from bbrl_exp.learners.parts.options import EpsilonOptions, ReturnOptions, StepOptions, adam
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace


class PQN(EpsilonOptions, StepOptions, ReturnOptions):
    """Learns the action values of a policy from each chunk, which is then thrown away.

    Raises:
        ConfigurationError: a value out of its range, or a policy that learns distributions.
    """

    policy: QPolicy = field(kw_only=False)
    """the policy that chooses the actions; its ε is set here. Its network should have ``layer_norm``."""
    anneal_learning_rate: bool = True
    max_grad_norm: Scheduled[AboveZero] | None = 10.0
    trace_decay: Scheduled[FromZeroToOne] = 0.65
    """λ of the returns."""
    n_epochs: Count = 4
    """passes over a chunk."""
    minibatch_size: Count = 256
    """most transitions of an update."""
    exploration_fraction: FromZeroToOne = 0.5
    seed: int = 0
    """root seed of the minibatches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.policy.network.atoms.kind
        if kind != "none":
            raise ConfigurationError(f"PQN learns no distributions: policy.distribution='{kind}', possible: 'none'")
        self.reads = self.reads_with(self.policy)
        self._generator = numpy_generator(self.seed, "learner", "pqn")
        self._optimizer = self.flat_optimizer(self.policy.network.parameters(), adam(epsilon=1e-5))
        self._n_updates = 0

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        observations, indexes, returns = self.samples(workspace, progress)
        self.begin_step(self._optimizer, progress)
        metrics: dict[str, float | Tensor] = {}
        for _ in range(self.n_epochs if len(returns) else 0):
            for part in minibatches(len(returns), self.minibatch_size, self._generator, returns.device):
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
        metrics["learner/epsilon"] = self.explore(progress.env_steps, progress.length)
        metrics["learner/learning_rate"] = self._optimizer.learning_rate
        metrics["learner/updates"] = float(self._n_updates)
        return metrics

    @torch.no_grad()
    def samples(self, workspace: Workspace, progress: Progress) -> tuple[list[Tensor], Tensor, Tensor]:
        """The N valid transitions of the new rows: observations, positions of the actions and λ-returns.

        Returns:
            One tensor ``[N, *shape]`` a leaf, int64 ``[N]``, float32 ``[N]``.
        """
        transitions = align(workspace, self.policy.reads, self.policy.writes, progress.first_row, self.reward)
        rows = [leaf[progress.first_row :].flatten(0, 1) for leaf in self.policy.network.features.read(workspace)]
        best = self.policy.network.values(rows).amax(dim=1).view(-1, workspace.batch_size())
        returns = lambda_returns(
            transitions.rewards,
            best[:-1],
            best[1:],
            transitions.terminated,
            transitions.cut,
            self.discount,
            self.trace_decay,
        )
        valid = transitions.valid.flatten().nonzero().squeeze(1)
        actions = transitions.actions[0].flatten()
        return (
            [leaf.flatten(0, 1)[valid] for leaf in transitions.observations],
            self.policy.exploration.indexes(actions[valid]),
            returns.flatten()[valid],
        )
