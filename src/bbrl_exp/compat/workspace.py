"""BBRL's workspace: rows that were skipped are zeros, variables may lack a batch, and whole variables are replaced."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

import torch
from torch import Tensor

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace import BatchDims
from bbrl_exp.workspace import Workspace as CoreWorkspace
from bbrl_exp.workspace.storage import SharedVariable, WholeVariable, check_rows


class Workspace(CoreWorkspace):
    """A workspace as BBRL's programs use it; see :class:`bbrl_exp.workspace.Workspace` for everything else.

    It differs from ours in what BBRL allows: a row may be written at any time, and those before it that nobody has
    written are zeros; :meth:`set_full` may change the shape and dtype of a variable; a variable may be ``[T]``; what a
    read of several rows gives may be changed in place, which changes nothing in the workspace.
    """

    def __init__(self, workspace: CoreWorkspace | None = None) -> None:
        super().__init__(workspace)
        self.allow_late_start(zeros_before=True)
        self._named.batch_is_optional = True

    @property
    def variables(self) -> Variables:
        """The variables by name."""
        return Variables(self)

    @property
    def is_shared(self) -> bool:
        """Whether the workspace is in shared memory."""
        return any(isinstance(variable, SharedVariable) for variable in self._variables.values())

    def set(self, name: str, t: int, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Writes row ``t`` of a variable; rows between the last one and ``t`` become zeros.

        Raises:
            WorkspaceError: a negative t, or a value of another shape, dtype or device than the variable's.
        """
        variable = self._variables.get(name)
        if variable is not None and t > variable.n_steps and not isinstance(variable, SharedVariable):
            skipped = (t - variable.n_steps, *variable.shape)
            self.extend(name, torch.zeros(skipped, dtype=variable.dtype, device=variable.device))
        super().set(name, t, value, batch_dims)

    def set_full(self, name: str, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Replaces all rows of a variable, whatever its shape and dtype were; see ours for ``batch_dims``."""
        if batch_dims is None and name in self._variables and not isinstance(self._variables[name], SharedVariable):
            check_rows(name, value, batch_is_optional=True)
            self._named.put(name, WholeVariable(value))
        else:
            super().set_full(name, value, batch_dims)

    def get_full(self, name: str, batch_dims: BatchDims | None = None) -> Tensor:
        """All rows of a variable, ``[T, B, …]``: a copy, unless they carry gradients, so that it may be changed.

        Raises:
            WorkspaceError: an unknown variable.
        """
        return _changeable(super().get_full(name, batch_dims))

    def get_time_truncated(
        self, name: str, from_time: int, to_time: int, batch_dims: BatchDims | None = None
    ) -> Tensor:
        """Rows ``from_time`` … ``to_time - 1`` of a variable, ``[T, B, …]``, as far as there are any: a copy, as above.

        Raises:
            WorkspaceError: an unknown variable, or an empty window.
        """
        stop = min(to_time, self.n_steps(name))
        return _changeable(super().get_time_truncated(name, from_time, stop, batch_dims))

    def get_transitions(self, no_final_state: bool = False, filter_key: str = "env/done") -> Workspace:
        """All N transitions as a workspace ``[2, N, …]``; variables may be ``[T]``, and flags any numbers.

        Raises:
            WorkspaceError: an unknown ``filter_key``, fewer than two rows, or variables of different sizes.
        """
        recorded = self._derive(lambda full: full.unsqueeze(1) if full.dim() == 1 else full)
        flags = recorded.get_full(filter_key) if filter_key in recorded else None
        if flags is not None:
            recorded.set_full(filter_key, flags.bool())
        found = CoreWorkspace.get_transitions(recorded, no_final_state, filter_key)
        if flags is not None:
            found.set_full(filter_key, found.get_full(filter_key).to(flags.dtype))
        return found

    def share_memory(self) -> Workspace:
        """A copy in shared memory, of fixed size, for other processes."""
        shared = self._new()
        shared._take_over(self, super().share_memory()._variables)
        return shared

    def _new(self) -> Workspace:
        return Workspace()


def _changeable(rows: Tensor) -> Tensor:
    return rows if rows.requires_grad else rows.clone()


class Variables(MutableMapping[str, "Variable"]):
    """The variables of a workspace by name, as ``workspace.variables``."""

    def __init__(self, workspace: CoreWorkspace) -> None:
        self._workspace = workspace

    def __getitem__(self, name: str) -> Variable:
        if name not in self._workspace:
            raise KeyError(name)
        return Variable(self._workspace, name)

    def __setitem__(self, name: str, value: object) -> None:
        raise WorkspaceError(f"workspace.variables['{name}'] cannot be set; use workspace.set_full('{name}', tensor)")

    def __delitem__(self, name: str) -> None:
        self._workspace.remove_variable(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._workspace.keys())

    def __len__(self) -> int:
        return len(self._workspace)


class Variable:
    """One variable of a workspace, with the methods that BBRL's storage has."""

    def __init__(self, workspace: CoreWorkspace, name: str) -> None:
        self._workspace, self._name = workspace, name

    def get(self, t: int, batch_dims: BatchDims | None = None) -> Tensor:
        """Row ``t``, ``[B, …]``."""
        return self._workspace.get(self._name, t, batch_dims)

    def set(self, t: int, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Writes row ``t``, ``[B, …]``."""
        self._workspace.set(self._name, t, value, batch_dims)

    def get_full(self, batch_dims: BatchDims | None = None) -> Tensor:
        """All rows, ``[T, B, …]``."""
        return self._workspace.get_full(self._name, batch_dims)

    def set_full(self, value: Tensor, batch_dims: BatchDims | None = None) -> None:
        """Replaces all rows."""
        self._workspace.set_full(self._name, value, batch_dims)

    def time_size(self) -> int:
        """T."""
        return self._workspace.n_steps(self._name)

    def batch_size(self) -> int:
        """B."""
        return self.get_full().shape[1]

    @property
    def size(self) -> torch.Size:
        """Shape of one row, ``[B, …]``."""
        return self.get_full().shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        """Of every row."""
        return self.get_full().dtype

    @property
    def device(self) -> torch.device:
        """Of every row."""
        return self.get_full().device
