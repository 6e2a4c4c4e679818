"""Environments that show the first observation of the next episode in place of the last one of this episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.envs.rows import RowLayout
from bbrl_exp.workspace import Workspace

_OBSERVATION = "env/env_obs"
_AS_THE_WHOLE: dict[str, Any] = {"clip_actions": False, "float_observations": "float32"}


class SameStep:
    """Steps environments that exist already, each alone: one that has ended is stepped once more, which resets it.

    Args:
        envs: the environments.
        seed: the root seed.
        role: which streams of random numbers.
        first: index of the first environment in the whole batch.
        layout: the names of the variables that are written, in the order of those of the environment agents.
    """

    def __init__(self, envs: Sequence[Any], seed: int, role: str, first: int, layout: RowLayout) -> None:
        self._agents = [
            AutoResetGymAgent(lambda env=env: env, 1, seed, role=role, first=index, **_AS_THE_WHOLE)
            for index, env in enumerate(envs, first)
        ]
        self._workspaces = [Workspace() for _ in envs]
        self._names = dict(zip(self._agents[0].writes, layout, strict=True))

    def seed(self, seed: int) -> None:
        """Another root seed from the next reset on."""
        for agent in self._agents:
            agent.seed(seed)

    def write(self, agent: Agent, t: int) -> None:
        """Writes row ``t`` of the variables of ``agent``, which runs on a workspace and reads actions."""
        assert agent.workspace is not None
        assert agent.reads is not None
        if t == 0:
            agent.workspace.truncate(1)
        rows: list[dict[str, torch.Tensor]] = []
        for index, (one, workspace) in enumerate(zip(self._agents, self._workspaces, strict=True)):
            if t > 0:
                workspace.copy_n_last_steps(1, one.writes)
                for name, action in zip(one.reads, agent.reads, strict=True):
                    workspace.clear(name) if name in workspace else None
                    workspace.set(name, 0, agent.get((action, t - 1))[index : index + 1].detach())
            one(workspace, t=min(t, 1))
            row = {name: workspace[name][-1] for name in one.writes}
            if row["env/done"].item():
                for name in one.reads:
                    workspace.set(name, 1, workspace.get(name, 0))
                one(workspace, t=2)
                row |= {name: workspace[name][-1] for name in one.writes if name.startswith(_OBSERVATION)}
                row["env/initial_state"] = torch.ones_like(row["env/initial_state"])
            rows.append(row)
        for name, written in self._names.items():
            agent.set((written, t), torch.cat([row[name] for row in rows]))
