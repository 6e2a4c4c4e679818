"""The policies of K jobs, which choose their actions together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

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

    @property
    def action(self) -> tuple[str, tuple[int, ...], DTypeLike] | None:
        """Variable, shape ``[*shape]`` and dtype of an environment's action; None where it has several leaves."""
        policy = self._policies[0]
        if len(policy.writes) != 1:
            return None
        ((name, (sizes, dtype)),) = policy._rows[policy.prefix, 1].items()
        return name, tuple(sizes[1:]), dtype

    @property
    def observed(self) -> str | None:
        """The one variable that the networks see as it is; None where they see others."""
        return self._features.names[0] if self._features.is_one_vector else None

    def act(self, t: int, workspaces: Sequence[Workspace], jobs: Sequence[int]) -> None:
        """Writes the actions of ``jobs`` at ``t`` in their workspaces."""
        outputs = self._mlp.on_arrays(self._observed(t, workspaces, jobs))
        for job, actions in self._actions(outputs, jobs):
            policy, workspace = self._policies[job], workspaces[job]
            if len(actions) == 1:
                workspace.row_writer(policy._rows[policy.prefix, outputs.shape[1]]).write(t, actions)
            else:
                for name, leaf in zip(policy.writes, actions, strict=True):
                    workspace.set(policy.prefix + name, t, torch.from_numpy(leaf))

    def noise(self, n_steps: int, batch_size: int) -> Iterable[NDArray[Any] | None]:
        """What :meth:`choose` needs in the next ``n_steps`` steps, drawn at once where that is known beforehand."""
        if self._choice is None:
            return [None] * n_steps
        policies = cast("Sequence[StochasticPolicy]", self._policies)
        return np.stack([policy.noise.next_steps(n_steps, batch_size)[0] for policy in policies], axis=1)

    def choose(self, observations: NDArray[Any], noise: NDArray[Any] | None, actions: NDArray[Any]) -> None:
        """Fills ``actions``, ``[K, B, *shape]``, from observations ``[K, B, n]`` and what :meth:`noise` gave."""
        outputs = self._mlp.on_arrays(observations)
        if self._choice is None:
            for job, policy in enumerate(self._policies):
                (actions[job],) = _actions_of(policy, outputs[job])
        else:
            actions[...] = (outputs + noise).argmax(axis=2) + self._choice._starts[0]

    def _actions(self, outputs: NDArray[Any], jobs: Sequence[int]) -> Iterator[tuple[int, Sequence[NDArray[Any]]]]:
        """The actions of ``jobs``, ``[B, *shape]`` a leaf, for outputs ``[K, B, …]``."""
        if self._choice is None:
            for job in jobs:
                yield job, _actions_of(self._policies[job], outputs[job])
            return
        size = outputs.shape[1]
        for job in jobs:
            outputs[job] += cast(StochasticPolicy, self._policies[job]).noise.next(size)[0]
        chosen = outputs.argmax(axis=2) + self._choice._starts[0]
        for job in jobs:
            yield job, [chosen[job]]

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


def _actions_of(policy: Policy, outputs: NDArray[Any]) -> Sequence[NDArray[Any]]:
    """The actions of one job for the outputs ``[B, …]`` of its network, ``[B, *shape]`` a leaf."""
    if isinstance(policy, QPolicy):
        return [policy.exploration.on_arrays(policy.network.values_on_arrays(outputs))]
    drawn = policy.noise.next(len(outputs))
    if len(policy.writes) == 1:
        return [policy.heads.actions_on_arrays(outputs, drawn)]
    with torch.no_grad():
        return [leaf.numpy() for leaf in policy.heads.actions(torch.from_numpy(outputs), drawn)]
