"""BBRL's replay buffer: the last elements of workspaces ``[T, N, …]``, such as transitions ``[2, N, …]``."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import Tensor

from bbrl_exp.arguments import AT_LEAST_1
from bbrl_exp.compat.workspace import Workspace
from bbrl_exp.errors import WorkspaceError


class ReplayBuffer:
    """Keeps the last ``max_size`` elements of the batch of every workspace that is put; the oldest are overwritten.

    Variables, and their shapes, are those of the first workspace.

    Args:
        max_size: number of elements to keep.
        device: where they are kept.

    Attributes:
        variables: name → ``[max_size, T, …]``; None before the first :meth:`put`.
        position: where the next element is written.
        is_full: whether there are ``max_size`` elements.

    Raises:
        ConfigurationError: ``max_size`` below 1.
    """

    def __init__(self, max_size: float, device: torch.device | str = "cpu") -> None:
        AT_LEAST_1.check(max_size=int(max_size))
        self.max_size = int(max_size)
        self.device = torch.device(device)
        self.variables: dict[str, Tensor] | None = None
        self.position = 0
        self.is_full = False

    def init_workspace(self, all_tensors: Mapping[str, Tensor]) -> None:
        """Takes the memory for variables like these, ``[T, N, …]``, unless there is some."""
        if self.variables is None:
            self.variables = {
                name: torch.zeros((self.max_size, len(value), *value.shape[2:]), dtype=value.dtype, device=self.device)
                for name, value in all_tensors.items()
            }

    def put(self, workspace: Workspace) -> None:
        """Adds all elements of a workspace's batch; of more than ``max_size``, the last ones.

        Raises:
            WorkspaceError: other variables than those of the first workspace, or other shapes.
        """
        values = {name: workspace.get_full(name).detach().to(self.device) for name in workspace.keys()}  # noqa: SIM118
        n_new = workspace.batch_size()
        self.init_workspace(values)
        assert self.variables is not None
        if values.keys() != self.variables.keys():
            different = ", ".join(sorted(values.keys() ^ self.variables.keys()))
            raise WorkspaceError(
                f"replay: not in both the first workspace that was put and this one: {different}; "
                "put workspaces with the same variables"
            )
        for name, value in values.items():
            stored = self.variables[name]
            expected, found = [*stored.shape[1:2], n_new, *stored.shape[2:]], [*value.shape]
            if (expected, stored.dtype) != (found, value.dtype):
                kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (stored, value)]
                raise WorkspaceError(f"replay: '{name}': expected {expected} {kinds[0]}, found {found} {kinds[1]}")
        n_kept = min(n_new, self.max_size)
        indexes = (torch.arange(n_kept, device=self.device) + self.position) % self.max_size
        for name, value in values.items():
            self.variables[name][indexes] = value[:, n_new - n_kept :].transpose(0, 1)
        self.is_full = self.is_full or self.position + n_new >= self.max_size
        self.position = (self.position + n_kept) % self.max_size

    def size(self) -> int:
        """Number of elements."""
        return self.max_size if self.is_full else self.position

    def __len__(self) -> int:
        return self.size()

    def get_shuffled(self, batch_size: int) -> Workspace:
        """``batch_size`` elements drawn uniformly with replacement, as a workspace ``[T, batch_size, …]``.

        Raises:
            WorkspaceError: there is none.
        """
        if self.variables is None or not self.size():
            raise WorkspaceError("replay: nothing to draw, no element is stored yet")
        drawn = torch.randint(self.size(), (batch_size,), device=self.device)
        workspace = Workspace()
        for name, stored in self.variables.items():
            workspace.set_full(name, stored.index_select(0, drawn).transpose(0, 1))
        return workspace

    def to(self, device: torch.device | str) -> None:
        """Moves the elements to another device."""
        self.device = torch.device(device)
        if self.variables is not None:
            self.variables = {name: stored.to(self.device) for name, stored in self.variables.items()}

    def print_obs(self) -> None:
        """Prints the position and the stored observations."""
        stored = None if self.variables is None else self.variables["env/env_obs"]
        sys.stdout.write(f"position: {self.position}\n{stored}\n")
