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

import math
from collections.abc import Iterator, Sequence
from dataclasses import field

import torch
from torch import Tensor

from bbrl_exp.arguments import Count
from bbrl_exp.compilation.compiler import Compiler, NotCompilableError
from bbrl_exp.data.transitions import align, minibatches
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.compiled.batches import check_can_be_filled_up, filled_up, refilled
from bbrl_exp.learners.compiled.updates import CompiledUpdates
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.parallel_q_learning import ParallelQLearning
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.workspace import Workspace

# Observations, one tensor per leaf, positions of the actions, and λ-returns.
Samples = tuple[list[Tensor], Tensor, Tensor]


class PQN(ParallelQLearning[Samples]):
    """Learns the action values of a policy from each chunk, which is then thrown away.

    Raises:
        ConfigurationError: a value out of its range, or a policy that learns distributions.
    """

    policy: QPolicy = field(kw_only=False)
    """the policy that chooses the actions; its ε is set here. Its network should have ``layer_norm``."""
    minibatch_size: Count = 256
    """most transitions of an update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.policy.network.atoms.kind
        if kind != "none":
            raise ConfigurationError(f"PQN learns no distributions: policy.distribution='{kind}', possible: 'none'")

    def compile_updates(self, compiler: Compiler, steps_per_chunk: int, batch_size: int) -> None:
        check_can_be_filled_up(self)
        n_samples = steps_per_chunk * batch_size
        due = self.n_epochs * math.ceil(n_samples / self.minibatch_size) / n_samples
        self.compiled = CompiledUpdates(self, compiler, ("_optimizer.max_grad_norm",), per_env_step=due)

    def epoch(self, experience: Samples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        compiled = self.compiled
        if compiled is None or not len(experience[-1]):
            yield from super().epoch(experience)
            return
        n, size, device = len(experience[-1]), self.minibatch_size, experience[-1].device
        try:
            with compiled.drawing("q", 1, self._generator):
                for part in minibatches(n, size, self._generator, device):
                    yield self._learn_compiled(compiled, experience, part)
        except NotCompilableError as reason:
            self.give_up_compiling(reason)
            yield from super().epoch(experience)

    def _learn_compiled(
        self, compiled: CompiledUpdates, experience: Samples, part: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step on the transitions at ``part``, filled up to a whole minibatch with those of weight 0."""
        observations, indexes, returns = experience
        indexes_of_part, weights = filled_up([part], self.minibatch_size)
        padded = indexes_of_part[0]

        def body(_: int, given: Sequence[Tensor]) -> list[Tensor]:
            *rows, taken, wanted, counts = given
            values = self.policy.network.values(rows).gather(1, taken[:, None]).squeeze(1)
            loss = 0.5 * ((values - wanted).square() * counts).sum()
            return [loss, (values * counts).sum(), self._optimizer.step(loss)]

        rows = [leaf.index_select(0, padded) for leaf in observations]
        loss, q_mean, norm = compiled(
            "q", 1, body, [*rows, indexes[padded], returns[padded], weights[0]], equal=refilled
        )
        return loss, q_mean, norm

    def minibatches(self, experience: Samples) -> Iterator[tuple[Tensor, Tensor]]:
        observations, indexes, returns = experience
        if not len(returns):
            return
        for part in minibatches(len(returns), self.minibatch_size, self._generator, returns.device):
            rows = [leaf.index_select(0, part) for leaf in observations]
            values = self.policy.network.values(rows).gather(1, indexes[part, None]).squeeze(1)
            yield values, returns[part]

    @torch.no_grad()
    def collect(self, workspace: Workspace, progress: Progress) -> Samples:
        """The N valid transitions of the new rows: observations, positions of the actions and λ-returns.

        Returns:
            One tensor ``[N, *shape]`` a leaf, int64 ``[N]``, float32 ``[N]``.
        """
        transitions = align(workspace, self.policy.reads, self.policy.writes, progress.first_row, self.reward)
        rows = [leaf[progress.first_row :].flatten(0, 1) for leaf in self.policy.network.features.read(workspace)]
        best = self.policy.network.values(rows).amax(dim=1).view(-1, workspace.batch_size())
        returns = self.returns_of(transitions, best)
        valid = transitions.valid.flatten().nonzero().squeeze(1)
        actions = transitions.actions[0].flatten()
        return (
            [leaf.flatten(0, 1)[valid] for leaf in transitions.observations],
            self.policy.exploration.indexes(actions[valid]),
            returns.flatten()[valid],
        )
