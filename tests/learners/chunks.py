"""Chunks of experience, made by hand or by a loop, for tests of learners on them."""

from __future__ import annotations

import torch
from torch import Tensor

from bbrl_exp.agents import Agent, Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent, EnvSpec
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace


def env_spec_of(env_id: str, batch_size: int) -> EnvSpec:
    env = AutoResetGymAgent(env_id, batch_size)
    env.close()
    return env.env_spec


def recorded_chunk(env_id: str, batch_size: int, steps_per_chunk: int, policy: Agent, seed: int = 0) -> Workspace:
    """The first chunk of a run, played by ``policy``."""
    env = AutoResetGymAgent(env_id, batch_size, seed)
    workspace = Workspace()
    total_steps = batch_size * steps_per_chunk
    for _ in collect(
        TemporalAgent(Agents(env, policy)),
        workspace,
        total_steps=total_steps,
        batch_size=batch_size,
        steps_per_chunk=steps_per_chunk,
    ):
        pass
    env.close()
    return workspace


def written_chunk(
    rewards: list[list[float]],
    terminated: list[list[int]],
    truncated: list[list[int]],
    n_observed: int = 2,
    actions: Tensor | None = None,
) -> Workspace:
    """A chunk ``[T, B]`` with these rewards and ends; observation 100 t + 10 b + i, by default action (t + b) mod 2."""
    workspace = Workspace()
    rows = torch.tensor(rewards)
    n_rows, batch_size = rows.shape
    time = torch.arange(n_rows).view(-1, 1)
    environment = torch.arange(batch_size).view(1, -1)
    observed = 100 * time + 10 * environment
    workspace.set_full("env/env_obs", torch.stack([observed + i for i in range(n_observed)], dim=2).float() / 1000)
    workspace.set_full("env/reward", rows)
    ends = torch.tensor(terminated, dtype=torch.bool), torch.tensor(truncated, dtype=torch.bool)
    workspace.set_full("env/terminated", ends[0])
    workspace.set_full("env/truncated", ends[1])
    workspace.set_full("env/done", ends[0] | ends[1])
    workspace.set_full("action", (time + environment) % 2 if actions is None else actions)
    return workspace


def whole(workspace: Workspace) -> Progress:
    """All rows are new, at the beginning of a run of a hundred such chunks."""
    env_steps = (workspace.time_size() - 1) * workspace.batch_size()
    return Progress(first_row=0, env_steps=env_steps, total_steps=100 * env_steps, new_steps=env_steps)


def hand_over_rows(saved: Learner, restored: Learner) -> None:
    """What a checkpoint keeps apart from the state of a learner: the rows of its replay buffers."""
    for name, buffer in restored.replay_buffers().items():
        kept = buffer.kept_rows
        buffer.load_rows(kept.start, saved.replay_buffers()[name].read_rows(kept.start, kept.stop))
