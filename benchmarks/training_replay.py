"""Replay: put the transitions of 8 environments and draw 256 from a million, this project and stable-baselines3.

Observations of 17 and actions of 6 float32. Both buffers are full, and what is put is ready before the clock starts:
arrays for the peer, recorded rows of a workspace for this project.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import gymnasium
import numpy as np
import torch

from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace

CAPACITY, BATCH_SIZE, SAMPLES, OBSERVATION_SIZE, ACTION_SIZE = 1_000_000, 8, 256, 17, 6
PAIRS = 2000
_READY = 64


def recording(n_rows: int, generator: torch.Generator) -> Workspace:
    """Random rows in which no episode ends."""
    workspace, nothing = Workspace(), torch.zeros(n_rows, BATCH_SIZE, dtype=torch.bool)
    workspace.set_full("env/env_obs", torch.randn(n_rows, BATCH_SIZE, OBSERVATION_SIZE, generator=generator))
    workspace.set_full("action", torch.randn(n_rows, BATCH_SIZE, ACTION_SIZE, generator=generator))
    workspace.set_full("env/reward", torch.randn(n_rows, BATCH_SIZE, generator=generator))
    for name in ("env/terminated", "env/truncated", "env/done", "env/initial_state"):
        workspace.set_full(name, nothing.clone())
    return workspace


def part(workspace: Workspace, first_row: int, n_rows: int) -> Workspace:
    rows = Workspace()
    for name in workspace.keys():  # noqa: SIM118 - a workspace is no mapping
        rows.set_full(name, workspace[name][first_row : first_row + n_rows].clone())
    return rows


def replay_of_this_project(seed: int, scale: float) -> float:
    """Pairs of one put and one draw a second."""
    generator, draws = torch.Generator().manual_seed(seed), numpy_generator(seed, "replay")
    buffer = ReplayBuffer(CAPACITY, ["env/env_obs"], ["action"], discount=0.99)
    for _ in range(CAPACITY // (BATCH_SIZE * 5000)):
        buffer.begin_recording()
        buffer.put(recording(5001, generator), 0)
    rows = recording(_READY + 1, generator)
    buffer.begin_recording()
    buffer.put(part(rows, 0, 2), 0)
    ready = [part(rows, t, 2) for t in range(1, _READY)]
    n = round(scale * PAIRS)
    n_rounds = max(1, n // len(ready))
    seconds = 0.0
    for _ in range(n_rounds):
        start = time.perf_counter()
        for workspace in ready:
            buffer.put(workspace, 0)
            buffer.sample(SAMPLES, draws)
        seconds += time.perf_counter() - start
        buffer.begin_recording()
        buffer.put(part(rows, 0, 2), 0)
    return n_rounds * len(ready) / seconds


def replay_of_stable_baselines3(seed: int, scale: float) -> float:
    """Pairs of one put and one draw a second."""
    from stable_baselines3.common.buffers import ReplayBuffer as PeerReplayBuffer

    generator = np.random.default_rng(seed)
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (ACTION_SIZE,), np.float32)
    buffer = PeerReplayBuffer(CAPACITY, observation_space, action_space, device="cpu", n_envs=BATCH_SIZE)
    for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards):
        generator.standard_normal(dtype=np.float32, out=array)
    buffer.full = True

    def ready() -> tuple[Any, ...]:
        observations, next_observations = generator.standard_normal((2, BATCH_SIZE, OBSERVATION_SIZE), dtype=np.float32)
        actions = generator.standard_normal((BATCH_SIZE, ACTION_SIZE), dtype=np.float32)
        rewards = generator.standard_normal(BATCH_SIZE, dtype=np.float32)
        infos = [{"TimeLimit.truncated": False} for _ in range(BATCH_SIZE)]
        return observations, next_observations, actions, rewards, np.zeros(BATCH_SIZE, np.bool_), infos

    steps = [ready() for _ in range(_READY)]
    n = round(scale * PAIRS)
    start = time.perf_counter()
    for step in itertools.islice(itertools.cycle(steps), n):
        buffer.add(*step)
        buffer.sample(SAMPLES)
    return n / (time.perf_counter() - start)
