"""One reset and one step, so that what is wrong with an environment is told before a run begins."""

from __future__ import annotations

import numpy as np
import torch

from bbrl_exp.envs.gym_agents import GymAgent
from bbrl_exp.envs.spaces import flattener
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace


def try_out(agent: GymAgent) -> None:
    """Resets the environments of ``agent``, which has one, and gives them one action of their action space.

    Raises:
        ConfigurationError: they fail, or show what is not of their declared spaces.
    """
    workspace, space = Workspace(), agent.action_space
    try:
        agent(workspace, t=0)
        space.seed(0)
        for leaf, value in zip(agent.env_spec.actions, flattener(space)(space.sample()), strict=True):
            workspace.set(leaf.name, 0, torch.as_tensor(np.asarray(value)[None]))
        agent(workspace, t=1)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigurationError(f"{agent.env_spec.env_id} fails at its first reset or step: {reason}") from error
