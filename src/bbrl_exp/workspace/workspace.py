"""The blackboard: named variables, tensors ``[T, B, …]`` that agents read and write one time step after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bbrl_exp.workspace import bbrl_methods
from bbrl_exp.workspace.late import LateVariable
from bbrl_exp.workspace.recording import Recording
from bbrl_exp.workspace.storage import SharedVariable, Variable, WholeVariable


class Workspace(Recording):
    """A mapping of variable names to tensors ``[T, B, …]``.

    A variable takes its row shape ``[B, …]``, dtype and device from its first write and keeps them; time starts at 0
    and has no gaps. What does not fit is refused with a :class:`WorkspaceError` that says what was expected: nothing
    is invented, broadcast, cast or moved.

    Aliasing: a write at one step copies the value, unless it carries a gradient; then the tensor itself is kept.
    ``set_full`` keeps the tensor it is given. Reads are views, to be cloned before they are changed in place: the next
    full read or cut in time of a variable refuses rows that were changed, except through numpy, and except rows that
    carry gradients and were written one by one. What was read keeps its values, whatever is written later. (A
    shared workspace is the exception: its reads show what other processes write, unless gradients are enabled.)

    Args:
        workspace: a workspace to copy, tensors included.
    """

    def clone(self) -> Workspace:
        """A copy that shares no memory with this one; gradients flow through the copy."""
        return self._of(self._each(lambda variable: variable.mapped(torch.clone, keeps_time=True)))

    def share_memory(self) -> Workspace:
        """A copy in shared memory, of fixed size, for other processes; rows can be overwritten but not added."""
        shared = Workspace()
        shared._take_over(self, self._each(lambda variable: SharedVariable(variable.full().detach())))
        return shared

    def _new(self) -> Workspace:
        """An empty workspace, of the kind of those that are made from this one."""
        return Workspace()

    def _of(self, variables: Mapping[str, Variable]) -> Workspace:
        workspace = self._new()
        workspace._take_over(self, variables)
        return workspace

    # For programs written for BBRL

    copy_time = bbrl_methods.copy_time
    get_time_truncated_workspace = Recording.subtime
    select_batch_n = bbrl_methods.select_batch_n
    select_subtime = bbrl_methods.select_subtime
    sample_subworkspace = bbrl_methods.sample_subworkspace
    cat_batch = staticmethod(bbrl_methods.cat_batch)
    transition_mask = bbrl_methods.transition_mask
    get_transitions = bbrl_methods.get_transitions

    # Pickling: whole tensors, so that a copy in another process needs nothing of this one's memory layout

    def __getstate__(self) -> dict[str, Any]:
        self._check_unchanged(self._variables)
        values = {}
        for name, variable in self._variables.items():
            first = variable.first if isinstance(variable, LateVariable) else 0
            rows = (
                variable.tensor
                if isinstance(variable, SharedVariable)
                else variable.rows(first, variable.n_steps).detach().clone()
            )
            values[name] = (rows, first, isinstance(variable, SharedVariable))
        named = self._named
        return {"values": values, "late_starts": named.late_starts, "batch_is_optional": named.batch_is_optional}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Recording.__init__(self)
        self._named.late_starts = state["late_starts"]
        self._named.batch_is_optional = state["batch_is_optional"]
        for name, (rows, first, is_shared) in state["values"].items():
            whole = SharedVariable(rows) if is_shared else WholeVariable(rows)
            self._variables[name] = LateVariable.from_rows(first, rows) if first else whole

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspace:
        copy = self.clone()
        memo[id(self)] = copy
        return copy
