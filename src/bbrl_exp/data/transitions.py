"""The one aligner: rows of a workspace as the transitions that they make up, and minibatches of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.arguments import AT_LEAST_1, is_integer
from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import Workspace

REWARD = "env/reward"
TERMINATED = "env/terminated"
TRUNCATED = "env/truncated"
DONE = "env/done"


@dataclass(frozen=True, eq=False)
class Transitions:
    """Pairs of consecutive rows: what was seen, done, got, and seen then. All tensors ``[T', B, …]``.

    Attributes:
        observations: on which the action was chosen, one tensor per variable.
        actions: one tensor per variable.
        rewards: float32 ``[T', B]``, caused by the action.
        terminated: bool ``[T', B]``: the next observation is worth 0.
        truncated: bool ``[T', B]``: the episode was cut there; the next observation is final, and worth its value.
        next_observations: what followed, one tensor per variable.
        valid: bool ``[T', B]``: false where the pair is not a transition but a reset, or the repeated last row of a
            frozen environment; the other values there mean nothing.
    """

    observations: tuple[Tensor, ...]
    actions: tuple[Tensor, ...]
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    next_observations: tuple[Tensor, ...]
    valid: Tensor

    @property
    def cut(self) -> Tensor:
        """Whether a trace ends here, as it is terminated, truncated or no transition; bool ``[T', B]``."""
        return self.terminated | self.truncated | ~self.valid

    def flat(self) -> Transitions:
        """The N valid transitions in the order of time, then of the batch: the same tensors as ``[N, …]``.

        Views where all are valid, copies otherwise.
        """
        mask = self.valid.flatten()
        if bool(mask.all()):
            return self.each(lambda values: values.flatten(0, 1))
        indexes = mask.nonzero().squeeze(1)
        return self.each(lambda values: values.flatten(0, 1).index_select(0, indexes))

    def of_environments(self, indexes: Tensor) -> Transitions:
        """The transitions of the environments ``indexes``, int64 ``[N]``: the same tensors as ``[T', N, …]``."""
        return self.each(lambda values: values.index_select(1, indexes))

    def each(self, change: Callable[..., Tensor], *others: Transitions) -> Transitions:
        """What ``change`` makes of every tensor, together with the same ones of ``others``."""
        values: dict[str, Any] = {}
        for field in fields(self):
            parts = [getattr(transitions, field.name) for transitions in (self, *others)]
            values[field.name] = tuple(map(change, *parts)) if isinstance(parts[0], tuple) else change(*parts)
        return Transitions(**values)


def align(
    workspace: Workspace,
    observations: Sequence[str],
    actions: Sequence[str],
    first_row: int = 0,
    reward: str = REWARD,
) -> Transitions:
    """The transitions between the rows ``first_row`` … T - 1 of ``workspace``: T' = T - 1 - ``first_row`` time steps.

    Rewards and ends of row t + 1 are those of the action in row t. Every tensor is a view of the workspace, unless the
    variable was recorded for autograd.

    Args:
        workspace: the recording, with ``env/terminated``, ``env/truncated`` and ``env/done``.
        observations: variables that were observed, ``[T, B, …]``.
        actions: variables that were chosen on them, ``[T, B, …]``.
        first_row: the row of the first transitions.
        reward: the variable of the rewards.

    Raises:
        WorkspaceError: an unknown variable, variables of different time or batch sizes, ends that are not bool
            ``[T, B]``, or fewer than two rows from ``first_row`` on.
    """
    done = _full(workspace, DONE, None)
    n_rows = len(done)
    if not is_integer(first_row) or not 0 <= first_row < n_rows - 1:
        raise WorkspaceError(f"no transition from row {first_row} on: '{DONE}' has {n_rows} rows")
    terminated, truncated = (_full(workspace, name, done) for name in (TERMINATED, TRUNCATED))
    for name, flags in ((DONE, done), (TERMINATED, terminated), (TRUNCATED, truncated)):
        if flags.dtype != torch.bool or flags.dim() != 2:
            raise WorkspaceError(f"'{name}': expected bool [T, B], found {list(flags.shape)} {flags.dtype}")
    rewards = _full(workspace, reward, done)
    if rewards.dim() != 2:
        raise WorkspaceError(f"'{reward}': expected one number per step, [T, B], found {list(rewards.shape)}")
    observed = [_full(workspace, name, done) for name in observations]
    here, then = slice(first_row, n_rows - 1), slice(first_row + 1, n_rows)
    return Transitions(
        observations=tuple(values[here] for values in observed),
        actions=tuple(_full(workspace, name, done)[here] for name in actions),
        rewards=rewards[then],
        terminated=terminated[then],
        truncated=truncated[then],
        next_observations=tuple(values[then] for values in observed),
        valid=~done[here],
    )


def _full(workspace: Workspace, name: str, like: Tensor | None) -> Tensor:
    values = workspace.get_full(name)
    if like is not None and values.shape[:2] != like.shape[:2]:
        raise WorkspaceError(
            f"'{name}': expected {list(like.shape[:2])} rows and environments like '{DONE}', "
            f"found {list(values.shape[:2])}"
        )
    return values


def minibatches(
    n_samples: int, size: int, generator: np.random.Generator, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """One epoch: a random partition of the indexes 0 … ``n_samples - 1``, int64 ``[≤ size]`` each, on ``device``.

    There are ⌈n_samples / size⌉ minibatches, none larger than ``size``, whose sizes differ by one at most: a small last
    one would give its samples a larger step than the others'.

    With the number B of environments for ``n_samples`` the indexes are columns of ``[T, B, …]``: minibatches of whole
    sequences, for recurrent policies (:meth:`Transitions.of_environments`).

    Raises:
        ConfigurationError: ``n_samples`` or ``size`` is not a whole number of at least 1.
    """
    AT_LEAST_1.check(n_samples=n_samples, size=size)
    return parts(n_samples, math.ceil(n_samples / size), generator, device)


def parts(
    n_samples: int, n_parts: int, generator: np.random.Generator, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """One epoch as :func:`minibatches`, in ``n_parts`` of them, or one per sample where there are fewer samples."""
    AT_LEAST_1.check(n_samples=n_samples, n_parts=n_parts)
    order = torch.from_numpy(generator.permutation(n_samples)).to(device)
    return iter(order.tensor_split(min(n_parts, n_samples)))
