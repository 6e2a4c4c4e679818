"""Recordings in which every number tells where it stands: row t of environment b shows 100·t + b."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.workspace import Workspace

OBSERVATIONS = ["env/env_obs"]
ACTIONS = ["action"]


def identities(n_rows: int, batch_size: int, first_time: int = 0) -> Tensor:
    """100·t + b, int64 ``[T, B]``."""
    return 100 * (first_time + torch.arange(n_rows))[:, None] + torch.arange(batch_size)


def recording(terminated: Tensor, truncated: Tensor | None = None, first_time: int = 0) -> Workspace:
    """Rows with the given ends, bool ``[T, B]``, of environments that are reset after each.

    The observation is (100·t + b, 0.5), the action 100·t + b, the image uint8 ``[2, 2]``, the state -(100·t + b), and
    the reward of row t, caused by the action of the row before, 100·(t - 1) + b; 0 in rows of a reset.
    """
    n_rows, batch_size = terminated.shape
    truncated = torch.zeros_like(terminated) if truncated is None else truncated
    identity = identities(n_rows, batch_size, first_time)
    done = terminated | truncated
    initial = torch.cat((torch.full((1, batch_size), first_time == 0), done[:-1]))
    reward = torch.where(initial, 0, identity - 100).float()
    workspace = Workspace()
    workspace.set_full("env/env_obs", torch.stack((identity.float(), torch.full(identity.shape, 0.5)), dim=2))
    workspace.set_full("env/image", (identity % 251).to(torch.uint8)[:, :, None, None].expand(-1, -1, 2, 2).clone())
    workspace.set_full("policy/state", -identity.double())
    workspace.set_full("action", identity)
    workspace.set_full("env/reward", reward)
    workspace.set_full("env/terminated", terminated)
    workspace.set_full("env/truncated", truncated)
    workspace.set_full("env/done", done)
    workspace.set_full("env/initial_state", initial)
    return workspace


def endless(n_rows: int, batch_size: int, first_time: int = 0) -> Workspace:
    """Rows without any end."""
    return recording(torch.zeros((n_rows, batch_size), dtype=torch.bool), first_time=first_time)


def with_random_ends(n_rows: int, batch_size: int, seed: int = 0) -> Workspace:
    """Rows of random episodes, some terminated, some truncated, some both; no row after an end is an end."""
    generator = np.random.default_rng(seed)
    ends = generator.random((2, n_rows, batch_size)) < 0.12
    for t in range(1, n_rows):
        ends[:, t] &= ~ends[:, t - 1].any(0)
    ends[:, 0] = False
    return recording(torch.from_numpy(ends[0]), torch.from_numpy(ends[1]))


def window(workspace: Workspace, first_row: int, n_rows: int) -> Workspace:
    """Rows ``first_row`` … ``first_row + n_rows - 1``, as a loop leaves them after a cut."""
    return workspace.subtime(first_row, first_row + n_rows)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint makes of a state."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def load_all_rows(restored: ReplayBuffer, saved: ReplayBuffer, n_rows: int = 7) -> None:
    """Hands over the rows of ``saved``, ``n_rows`` at a time."""
    kept = saved.kept_rows
    for first in range(kept.start, kept.stop, n_rows):
        restored.load_rows(first, through_a_file(saved.read_rows(first, min(first + n_rows, kept.stop))))
