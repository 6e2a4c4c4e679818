"""Methods of a workspace that only programs written for BBRL call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from bbrl_exp.errors import WorkspaceError
from bbrl_exp.workspace.recording import Recording
from bbrl_exp.workspace.storage import WholeVariable, check_count, check_indexes

W = TypeVar("W", bound=Recording)


def copy_time(
    self: Recording, from_time: int, to_time: int, n_steps: int, var_names: Iterable[str] | None = None
) -> None:
    """Copies rows ``from_time`` … ``from_time + n_steps - 1`` over those from ``to_time`` on.

    Raises:
        WorkspaceError: rows that were never written, or a gap that the copy would leave.
    """
    for argument, value in (("from_time", from_time), ("to_time", to_time), ("n_steps", n_steps)):
        check_count(argument, value, 0)
    for name in list(self._variables if var_names is None else var_names):
        window = Recording.get_time_truncated(self, name, from_time, from_time + n_steps).clone()
        for offset, row in enumerate(window):
            self.set(name, to_time + offset, row)


def select_batch_n(self: W, n: int, generator: torch.Generator | None = None) -> W:
    """``n`` batch elements drawn uniformly with replacement, by ``generator`` or by torch's global one.

    Raises:
        WorkspaceError: ``n`` below 1, or variables of different batch sizes.
    """
    check_count("n", n, 1)
    return self.select_batch(torch.randint(self.batch_size(), (n,), generator=generator))


def select_subtime(self: W, t: Tensor, window_size: int) -> W:
    """A window of ``window_size`` rows for each batch element, beginning at its own time.

    Args:
        t: first row of each element's window, int64 ``[B]``.
        window_size: number of rows.

    Raises:
        WorkspaceError: ``t`` of another kind, or a window that is not wholly recorded.
    """
    time_size, batch_size = self.time_size(), self.batch_size()
    check_count("window_size", window_size, 1, time_size)
    check_indexes("t", t, time_size - window_size + 1)
    if len(t) != batch_size:
        raise WorkspaceError(f"t: expected one time for each of {batch_size} batch elements, found {len(t)}")
    rows = t.unsqueeze(0) + torch.arange(window_size, device=t.device).unsqueeze(1)
    columns = torch.arange(batch_size, device=t.device).expand_as(rows)
    return self._derive(lambda full: full[rows.to(full.device), columns.to(full.device)])


def sample_subworkspace(
    self: W, n_times: int, n_batch_elements: int, n_timesteps: int, generator: torch.Generator | None = None
) -> W:
    """Draws ``n_times`` windows of ``n_timesteps`` rows, each of ``n_batch_elements`` distinct batch elements.

    Every window that lies wholly within the recording is equally likely. The result has T = ``n_timesteps``
    and B = ``n_times * n_batch_elements``.

    Raises:
        WorkspaceError: more rows or batch elements than there are, or less than one of anything.
    """
    time_size, batch_size = self.time_size(), self.batch_size()
    check_count("n_times", n_times, 1)
    check_count("n_batch_elements", n_batch_elements, 1, batch_size)
    check_count("n_timesteps", n_timesteps, 1, time_size)
    starts = torch.randint(time_size - n_timesteps + 1, (n_times,), generator=generator)
    elements = torch.stack([torch.randperm(batch_size, generator=generator)[:n_batch_elements] for _ in range(n_times)])
    return select_subtime(
        self.select_batch(elements.flatten()), starts.repeat_interleave(n_batch_elements), n_timesteps
    )


def cat_batch(workspaces: Sequence[W]) -> W:
    """Several workspaces with the same variables and time size, side by side in the batch.

    Raises:
        WorkspaceError: no workspace, or variables or time sizes that differ.
    """
    if not workspaces:
        raise WorkspaceError("cat_batch needs at least one workspace")
    names = list(workspaces[0].keys())
    for other in workspaces[1:]:
        if set(other.keys()) != set(names):
            different = sorted(set(names) ^ set(other.keys()))
            raise WorkspaceError(f"cat_batch: variables that not every workspace has: {', '.join(different)}")
    values = {}
    for name in names:
        parts = [workspace[name] for workspace in workspaces]
        facts = {(len(part), part.shape[2:], part.dtype, part.device) for part in parts}
        if len(facts) > 1 or any(part.dim() < 2 for part in parts):
            found = ", ".join(f"{list(part.shape)} {part.dtype}" for part in parts)
            problem = "has no batch" if len(facts) == 1 else "differs in time size, shape, dtype or device"
            raise WorkspaceError(f"cat_batch: '{name}' {problem}: {found}")
        values[name] = torch.cat(parts, dim=1)
    return workspaces[0]._of({name: WholeVariable(value) for name, value in values.items()})


def transition_mask(self: Recording, filter_key: str = "env/done") -> Tensor:
    """Which pairs of rows (t, t+1) are transitions of an environment: bool ``[T-1, B]``, false where ``done[t]``.

    After ``done[t]`` an auto-reset environment shows the first observation of its next episode, and a frozen one
    its last row again; neither pair is a transition.

    Raises:
        WorkspaceError: an unknown ``filter_key``, or one that is not bool ``[T, B]`` with T of at least 2.
    """
    done = self.get_full(filter_key)
    if done.dtype != torch.bool or done.dim() != 2 or len(done) < 2:
        raise WorkspaceError(
            f"'{filter_key}': expected bool [T, B] of at least 2 rows, found {list(done.shape)} {done.dtype}"
        )
    return ~done[:-1]


def get_transitions(self: W, no_final_state: bool = False, filter_key: str = "env/done") -> W:
    """All N transitions as a workspace ``[2, N, …]``: row 0 is the time of the action, row 1 the time after it.

    Transitions are in the order of time, then of the batch.

    Args:
        no_final_state: the recording holds no final observations, so that every pair of rows is a transition.
        filter_key: the variable that is true where the next row belongs to no transition.

    Raises:
        WorkspaceError: as :meth:`transition_mask`, or variables of different time or batch sizes.
    """
    shape = (self.time_size() - 1, self.batch_size())
    mask = torch.ones(shape, dtype=torch.bool) if no_final_state else transition_mask(self, filter_key)
    indexes = mask.flatten().nonzero().squeeze(1)
    first, second = indexes, indexes + shape[1]

    def pairs(full: Tensor) -> Tensor:
        flat = full.reshape(-1, *full.shape[2:])
        here = torch.stack((first, second)).to(full.device)
        return flat.index_select(0, here.flatten()).reshape(2, -1, *full.shape[2:])

    return self._derive(pairs)
