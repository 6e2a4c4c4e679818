"""BBRL's agents in other processes: two processes, each with its own environments."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import torch
from bbrl.agents import Agent, Agents, NRemoteAgent, TemporalAgent
from bbrl.agents.asynchronous import AsynchronousAgent
from bbrl.agents.gymnasium import ParallelGymAgent, make_env
from bbrl.workspace import Workspace
from torch import nn

from bbrl_exp.errors import ConfigurationError


class Policy(Agent):
    def __init__(self) -> None:
        super().__init__("policy")
        self.model = nn.Linear(4, 2)

    def forward(self, t: int, **kwargs: Any) -> None:
        self.set(("action", t), self.model(self.get(("env/env_obs", t))).argmax(dim=1))


def graph(n_envs: int) -> TemporalAgent:
    return TemporalAgent(Agents(ParallelGymAgent(partial(make_env, "CartPole-v1", autoreset=True), n_envs), Policy()))


def test_n_processes_have_n_times_as_many_environments() -> None:
    torch.manual_seed(0)
    here = graph(4)
    agent, workspace = NRemoteAgent.create(graph(2), num_processes=2, t=0, n_steps=8)
    try:
        agent.seed(3)
        here.seed(3)
        (policy,) = agent.get_by_name("policy")
        policy.load_state_dict(here.get_by_name("policy")[0].state_dict())
        agent(workspace, t=0, n_steps=8)
        workspace.copy_n_last_steps(1)
        agent._asynchronous_call(workspace, t=1, n_steps=7)
        while agent.is_running():
            time.sleep(0.01)
        expected = Workspace()
        here(expected, t=0, n_steps=15)
        assert torch.equal(workspace["env/env_obs"], expected["env/env_obs"][7:])
        assert workspace.batch_size() == 4
        assert not agent.is_running()
    finally:
        agent.close()


def test_an_asynchronous_agent_gives_its_own_workspace() -> None:
    agent = AsynchronousAgent(graph(1))
    try:
        agent(t=0, n_steps=3)
        while agent.is_running():
            time.sleep(0.01)
        assert agent.get_workspace()["env/timestep"].flatten().tolist() == [0, 1, 2]
    finally:
        agent.close()


def test_without_processes_the_graph_itself_is_copied() -> None:
    agent, workspace = NRemoteAgent.create(graph(2))
    agent(workspace, t=0, n_steps=2)
    assert workspace.batch_size() == 2


def test_a_graph_without_environments_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        NRemoteAgent.create(TemporalAgent(Policy()), num_processes=2)
    assert str(caught.value) == (
        "NRemoteAgent.create: no environment agent of bbrl.agents in the graph; use "
        "bbrl_exp.agents.remote.NRemoteAgent(agent, n_processes), which divides the batch of any agent"
    )
