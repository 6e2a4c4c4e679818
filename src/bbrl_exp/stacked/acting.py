"""The policies of K jobs, which choose their actions together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bbrl_exp.nn.heads import CategoricalHead
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.stacked.networks import StackedMlp, stacked_features
from bbrl_exp.workspace import Workspace

Policy = StochasticPolicy | QPolicy


class StackedPolicy:
    """K policies that are built alike: their networks are computed together, and each draws from its own stream.

    Args:
        policies: with the noise, or the exploration, of each.
        mlp: their networks.
    """

    def __init__(self, policies: Sequence[Policy], mlp: StackedMlp) -> None:
        self._policies = policies
        self._mlp = mlp
        first = policies[0]
        self._features = first.features if isinstance(first, StochasticPolicy) else first.network.features
        self._inputs: NDArray[Any] | None = None
        self._choice = _choice_of(first)

    def act(self, t: int, workspaces: Sequence[Workspace], jobs: Sequence[int]) -> None:
        """Writes the actions of ``jobs`` at ``t`` in their workspaces."""
        outputs = self._mlp.on_arrays(self._observed(t, workspaces, jobs))
        if self._choice is None:
            for job in jobs:
                _write(self._policies[job], t, workspaces[job], outputs[job])
            return
        size = outputs.shape[1]
        for job in jobs:
            outputs[job] += cast(StochasticPolicy, self._policies[job]).noise.next(size)[0]
        actions = outputs.argmax(axis=2) + self._choice._starts[0]
        for job in jobs:
            policy, workspace = self._policies[job], workspaces[job]
            writer = workspace.row_writer(policy._rows[policy.prefix, size])
            writer.rows(t)[0][...] = actions[job]
            writer.commit(t)

    def _observed(self, t: int, workspaces: Sequence[Workspace], jobs: Sequence[int]) -> NDArray[Any]:
        names = self._features.names
        if self._features.is_one_vector:
            inputs = self._inputs
            for job in jobs:
                (row,) = workspaces[job].row_reader(names).rows(t)
                if inputs is None or inputs.shape[1:] != row.shape:
                    inputs = self._inputs = np.zeros((len(self._policies), *row.shape), np.float32)
                inputs[job] = row
            assert inputs is not None
            return inputs
        rows = {job: [workspaces[job].get(name, t) for name in names] for job in jobs}
        shown = [rows.get(job, rows[jobs[0]]) for job in range(len(self._policies))]
        leaves = [torch.stack(list(leaf)) for leaf in zip(*shown, strict=True)]
        with torch.no_grad():
            return stacked_features(self._features, leaves).numpy()


def _choice_of(policy: Policy) -> CategoricalHead | None:
    """The one discrete action that a policy draws from its logits; None for other actions, and other policies."""
    if isinstance(policy, QPolicy):
        return None
    (head, *others) = policy.heads._heads
    return head if not others and isinstance(head, CategoricalHead) and head.shape == () else None


def _write(policy: Policy, t: int, workspace: Workspace, outputs: NDArray[Any]) -> None:
    """The actions of one job for the outputs ``[B, …]`` of its network."""
    if isinstance(policy, QPolicy):
        actions = policy.exploration.on_arrays(policy.network.values_on_arrays(outputs))
        workspace.row_writer(policy._rows[policy.prefix, len(actions)]).write(t, [actions])
        return
    drawn = policy.noise.next(len(outputs))
    if len(policy.writes) == 1:
        actions = policy.heads.actions_on_arrays(outputs, drawn)
        workspace.row_writer(policy._rows[policy.prefix, len(actions)]).write(t, [actions])
        return
    with torch.no_grad():
        leaves = policy.heads.actions(torch.from_numpy(outputs), drawn)
    for name, leaf in zip(policy.writes, leaves, strict=True):
        workspace.set(policy.prefix + name, t, leaf)
