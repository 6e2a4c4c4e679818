"""An environment's facts and rollouts for policies of continuous actions."""

from __future__ import annotations

import numpy as np
import torch

from bbrl_exp.agents import Agent
from bbrl_exp.envs import EnvSpec
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.workspace import Workspace

LOW, HIGH = np.array([-2.0, 10.0], np.float32), np.array([2.0, 30.0], np.float32)


def spec_of(low: np.ndarray = LOW, high: np.ndarray = HIGH, batch_size: int = 2) -> EnvSpec:
    infinite = np.full(3, np.inf, np.float32)
    observation = LeafSpec("env/env_obs", "box", (3,), "float32", -infinite, infinite)
    action = LeafSpec("action", "box", low.shape, "float32", low, high)
    return EnvSpec("Boxes-v0", batch_size, (observation,), (action,))


def rollout(policy: Agent, n_steps: int, batch_size: int = 2, gradients: bool = False) -> torch.Tensor:
    """Actions ``[T, B, 2]`` on observations that differ in time and environment."""
    workspace = Workspace()
    with torch.set_grad_enabled(gradients):
        for t in range(n_steps):
            rows = torch.arange(3.0 * batch_size).reshape(batch_size, 3)
            workspace.set("env/env_obs", t, torch.sin(rows + 100.0 * t))
            policy(workspace, t=t)
    return workspace["action"]
