"""The blackboard: named variables, tensors ``[T, B, …]`` that agents read and write one time step after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bbrl_exp.workspace import bbrl_methods
from bbrl_exp.workspace.recording import Recording
from bbrl_exp.workspace.storage import SharedVariable, WholeVariable


class Workspace(Recording):
    """A mapping of variable names to tensors ``[T, B, …]``.

    A variable takes its row shape ``[B, …]``, dtype and device from its first write and keeps them; time starts at 0
    and has no gaps. What does not fit is refused with a :class:`WorkspaceError` that says what was expected: nothing
    is invented, broadcast, cast or moved.

    Aliasing: a write at one step copies the value, unless it carries a gradient; then the tensor itself is kept.
    ``set_full`` keeps the tensor it is given. Reads are views, to be cloned before they are changed in place; what was
    read keeps its values for ever, whatever is written later. (A shared workspace is the exception: its reads show what
    other processes write, unless gradients are enabled.)

    Args:
        workspace: a workspace to copy, tensors included.
    """

    def clone(self) -> Workspace:
        """A copy that shares no memory with this one; gradients flow through the copy."""
        return Workspace(self)

    def share_memory(self) -> Workspace:
        """A copy in shared memory, of fixed size, for other processes; rows can be overwritten but not added."""
        shared = Workspace()
        for name, variable in self._variables.items():
            shared._variables[name] = SharedVariable(variable.full().detach())
        return shared

    def _of(self, values: Mapping[str, Tensor]) -> Workspace:
        workspace = Workspace()
        workspace._variables.update({name: WholeVariable(value) for name, value in values.items()})
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

    def __getstate__(self) -> dict[str, tuple[Tensor, bool]]:
        return {
            name: (variable.tensor, True)
            if isinstance(variable, SharedVariable)
            else (variable.full().detach().clone(), False)
            for name, variable in self._variables.items()
        }

    def __setstate__(self, state: dict[str, tuple[Tensor, bool]]) -> None:
        Recording.__init__(self)
        for name, (tensor, is_shared) in state.items():
            self._variables[name] = SharedVariable(tensor) if is_shared else WholeVariable(tensor)

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspace:
        copy = self.clone()
        memo[id(self)] = copy
        return copy
