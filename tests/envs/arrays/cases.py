"""The environments that are there as arrays, and actions that bring their episodes to every kind of end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.envs.arrays.backends import ArrayBackend, TorchBackend
from bbrl_exp.envs.arrays.environments import ArrayEnvironments
from bbrl_exp.workspace import Workspace

KWARGS: dict[str, dict[str, Any]] = {
    "Acrobot-v1": {"max_episode_steps": 80},
    "CartPole-v1": {"max_episode_steps": 30},
    "MountainCar-v0": {"max_episode_steps": 150},
    "MountainCarContinuous-v0": {"max_episode_steps": 120},
    "Pendulum-v1": {"max_episode_steps": 50},
    "bbrl_exp/TMaze-v0": {"corridor_length": 3},
}
IDS = tuple(KWARGS)
BACKENDS = {"array": ArrayBackend, "torch": TorchBackend}
SEEN = ("env_obs", "reward", "terminated", "truncated")


def made(backend: str, env_id: str, batch_size: int = 4, seed: Any = 0, **options: Any) -> ArrayEnvironments:
    keys = {"info_keys": {"is_success": "bool"}} if "TMaze" in env_id else {}
    return BACKENDS[backend](env_id, batch_size, seed, kwargs=KWARGS[env_id], **keys, **options)


def chosen(env_id: str, observation: Tensor, generator: np.random.Generator) -> Tensor:
    """Random actions, but the cars of the first half of the batch are pushed the way they roll, up the hill."""
    size = len(observation)
    if env_id in ("Pendulum-v1", "MountainCarContinuous-v0"):
        actions = torch.from_numpy(generator.uniform(-2.5, 2.5, (size, 1)).astype(np.float32))
    else:
        counts = {"CartPole-v1": 2, "bbrl_exp/TMaze-v0": 4}
        actions = torch.from_numpy(generator.integers(0, counts.get(env_id, 3), size))
    if "MountainCar" in env_id:
        with_it = torch.where(observation[:, 1] < 0, -1, 1)[: size // 2]
        actions[: size // 2] = with_it[:, None] if actions.ndim == 2 else with_it + 1
    return actions


def step(agent: ArrayEnvironments, workspace: Workspace, generator: np.random.Generator) -> int:
    """One more row, and the actions in it; gives its time."""
    t = workspace.time_size() if workspace.keys() else 0
    agent(workspace, t=t)
    observation = workspace.get("env/env_obs", t)
    workspace.set("action", t, chosen(agent.env_spec.env_id, observation, generator))
    return t


def rows(agent: ArrayEnvironments, n_steps: int, seed: int = 0) -> Workspace:
    workspace, generator = Workspace(), np.random.default_rng(seed)
    for _ in range(n_steps):
        step(agent, workspace, generator)
    return workspace
