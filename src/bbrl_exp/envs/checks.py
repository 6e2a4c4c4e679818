"""What is tried with environments before a run begins: a step, and whether the run can be resumed exactly."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from bbrl_exp.envs.gym_agents import GymAgent
from bbrl_exp.envs.spaces import flattener
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.seeding import untouched_global_generators
from bbrl_exp.workspace import Workspace

_STEPS = 16


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


def check_vectorized(graph: nn.Module) -> None:
    """Tries the vectorised environments of a graph as :func:`check_resumable` does; their state may be of any kind.

    The global generators are where they were afterwards.

    Raises:
        ConfigurationError: they cannot be saved, or are not deterministic.
    """
    for module in graph.modules():
        if isinstance(module, GymAgent) and module.is_vectorized:
            with untouched_global_generators():
                check_resumable(module)


def check_resumable(agent: GymAgent) -> None:
    """Plays a few steps, takes up the state in other environments, and compares what both show in the next steps.

    Two environment agents like ``agent`` are made for it, and closed. It cannot see what an environment does otherwise
    later in an episode; a run that is resumed checks that again.

    Raises:
        ConfigurationError: they cannot be saved, or are not deterministic.
    """
    first, second = copy.deepcopy(agent), copy.deepcopy(agent)
    try:
        actions = _actions(copy.deepcopy(agent.action_space), agent, 2 * _STEPS)
        _played(first, Workspace(), actions[_STEPS:])  # an episode before, of which nothing may be left
        workspace = _played(first, Workspace(), actions[:_STEPS])
        second.load_run_state(first.run_state())
        rows = [_played(one, Workspace(workspace), actions[_STEPS:]) for one in (first, second)]
        for name in rows[0].keys():  # noqa: SIM118
            if not torch.equal(rows[0][name], rows[1][name]):
                raise BbrlExpError(
                    f"{agent.env_spec.env_id} is not deterministic: played twice with the same seed and actions, it "
                    f"shows two different '{name}'"
                )
    except ConfigurationError:
        raise
    except BbrlExpError as error:
        raise ConfigurationError(str(error)) from error
    finally:
        first.close()
        second.close()


def _played(agent: GymAgent, workspace: Workspace, actions: Sequence[Sequence[Tensor]]) -> Workspace:
    for leaves in actions:
        t = workspace.time_size() if workspace.keys() else 0
        agent(workspace, t=t)
        for leaf, values in zip(agent.env_spec.actions, leaves, strict=True):
            workspace.set(leaf.name, t, values)
    return workspace


def _actions(space: gymnasium.Space[object], agent: GymAgent, n_steps: int) -> list[list[Tensor]]:
    space.seed(0)
    flatten = flattener(space)
    steps = []
    for _ in range(n_steps):
        values = [flatten(space.sample()) for _ in range(agent.batch_size)]
        leaves = zip(*values, strict=True)
        steps.append([torch.from_numpy(np.stack([np.asarray(value) for value in leaf])) for leaf in leaves])
    return steps
