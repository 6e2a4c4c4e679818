"""Agents in other processes give the bits that they give here, whatever the number of processes."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from itertools import pairwise

import pytest
import torch
from remote_toys import AddsUp, Blinks, Counts, DrawsAlone, DrawsGlobally, KeepsMean, LooksBack

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.agents.graph_check import check_graph
from bbrl_exp.agents.remote import AsynchronousAgent, NRemoteAgent, RemoteAgent
from bbrl_exp.agents.resumable import load_run_state, run_state
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs import AutoResetGymAgent, NoAutoResetGymAgent
from bbrl_exp.errors import ConfigurationError, RemoteAgentError, WorkspaceError
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace


def cartpole_graph(policy=RandomAgent, batch_size=5, env=AutoResetGymAgent):
    env_agent = env("CartPole-v1", batch_size, seed=3)
    return Agents(env_agent, policy(env_agent.env_spec, name="policy"))


def rollout(agent, n_chunks=3, n_steps=30, between=lambda: None):
    """Chunks that overlap by one row, one after the other in time; gives all of them."""
    workspace, chunks = Workspace(), []
    for chunk in range(n_chunks):
        if chunk:
            workspace.copy_n_last_steps(1)
            between()
        agent(workspace, t=min(chunk, 1), n_steps=n_steps)
        chunks.append(workspace.clone())
    return chunks


def assert_same_bits(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert list(one.keys()) == list(other.keys())
        for name in one.keys():  # noqa: SIM118
            assert torch.equal(one[name], other[name]), name


def change_policy(agent):
    (policy,) = agent.get_by_name("policy")
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(-3.0)


def test_a_graph_in_another_process_gives_the_same_bits_and_follows_its_parameters():
    local = TemporalAgent(cartpole_graph(StochasticPolicy))
    expected = rollout(local, between=lambda: change_policy(local))
    with contextlib.closing(RemoteAgent(TemporalAgent(cartpole_graph(StochasticPolicy)))) as remote:
        assert_same_bits(rollout(remote, between=lambda: change_policy(remote)), expected)
    assert any(not torch.equal(a["action"][1:], b["action"][1:]) for a, b in pairwise(expected))


def test_an_environment_in_another_process_is_a_member_like_any_other_and_leaves_nothing_behind():
    gc.collect()
    n_files = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    expected = rollout(TemporalAgent(cartpole_graph()))
    env, policy = cartpole_graph()
    remote = RemoteAgent(env)
    assert_same_bits(rollout(TemporalAgent(Agents(remote, policy))), expected)
    remote.close()
    remote.close()
    with pytest.raises(RemoteAgentError, match="have been ended"):
        remote(Workspace(), t=0)
    del env, remote
    gc.collect()
    if n_files:
        assert len(os.listdir("/proc/self/fd")) == n_files


def test_two_copies_share_five_environments_and_draw_and_stop_as_one_batch_would():
    agents = [TemporalAgent(cartpole_graph(StochasticPolicy, env=NoAutoResetGymAgent)) for _ in range(2)]
    with contextlib.closing(NRemoteAgent(agents[0], 2)) as remote:
        found, expected = Workspace(), Workspace()
        for _ in range(2):
            remote(found, t=0, stop_variable="env/done")
            agents[1](expected, t=0, stop_variable="env/done")
            assert_same_bits([found], [expected])


def test_copies_stop_at_the_first_time_at_which_all_are_true_even_if_they_were_true_before():
    agent = TemporalAgent(Agents(Blinks([2, 3, 4])))
    with contextlib.closing(NRemoteAgent(agent, 2)) as remote:
        workspace = Workspace()
        remote(workspace, t=0, stop_variable="stop", n_steps=40)
        assert workspace.time_size() == 13
        workspace = Workspace()
        remote(workspace, t=0, stop_variable="stop", n_steps=9)
        assert workspace.time_size() == 9


def test_rows_that_others_change_go_along_and_what_is_written_cut_or_removed_comes_back():
    agent = Agents(Counts(), AddsUp())
    with contextlib.closing(RemoteAgent(agent)) as remote:
        workspace = Workspace()
        workspace.set("old", 0, torch.zeros(1))
        for t in range(4):
            remote(workspace, t=t)
        assert workspace["sum"].flatten().tolist() == [1, 3, 6, 10]
        assert "old" not in workspace
        workspace.set("sum", 2, torch.tensor([100]))
        state = run_state(Agents(remote))
        for _ in range(2):  # the second time from the state that was taken before the first
            remote(workspace, t=3)
            assert workspace["n"].flatten().tolist() == [1, 2, 3, 5]
            assert workspace["sum"].flatten().tolist() == [1, 3, 100, 105]
            load_run_state(Agents(remote), state)
        workspace.copy_n_last_steps(1)
        remote(workspace, t=1)
        assert workspace["sum"].flatten().tolist() == [105, 110]
    assert list(state) == ["agents.0"]
    with pytest.raises(WorkspaceError, match="nobody has written"):
        RemoteAgent(AddsUp()).dry_copy()(Workspace(), t=0)


def counted(n_steps):
    workspace = Workspace()
    for t in range(n_steps):
        workspace.set("n", t, torch.tensor([t]))
    return workspace


@pytest.mark.parametrize("what", ["read", "read all", "write", "cut", "keep"])
def test_a_call_at_t_has_the_rows_from_t_minus_1_on_and_earlier_ones_are_refused(what):
    with contextlib.closing(RemoteAgent(LooksBack(what))) as remote:
        for t in (0, 1):
            remote(counted(4), t=t)
        with pytest.raises(WorkspaceError, match=r"row t=0 stayed in the other process: .* t=2 has the rows from t=1"):
            remote(counted(4), t=2)


def test_a_variable_that_is_removed_and_written_again_begins_again():
    workspace = counted(4)
    with contextlib.closing(RemoteAgent(LooksBack("replace"))) as remote:
        remote(workspace, t=3)
    assert workspace["n"].tolist() == [[1.0]]


@pytest.mark.parametrize("n_processes", [1, 2, 3])
def test_rows_that_are_there_are_rewritten_or_kept_with_their_gradients_in_every_slice(n_processes):
    periods = [2, 3, 4]
    recorded = Workspace()
    recorded.set("weight", 0, torch.ones(3, requires_grad=True) * 2)
    for t in range(4):  # what is written is what was there for the first batch element only
        recorded.set("stop", t, torch.tensor([t % 2 == 0 and t > 0, True, True]))
    with contextlib.closing(NRemoteAgent(TemporalAgent(Blinks(periods)), n_processes)) as remote:
        remote(recorded, t=0, n_steps=6)
    assert recorded["stop"].tolist() == [[t % p == 0 and t > 0 for p in periods] for t in range(6)]
    assert recorded["weight"].requires_grad


def test_rows_in_shared_memory_can_be_rewritten_but_not_added():
    shared = counted(3).share_memory()
    with contextlib.closing(RemoteAgent(LooksBack("write"))) as remote:
        remote(shared, t=0)
    assert shared["n"].flatten().tolist() == [0, 1, 2]
    with contextlib.closing(RemoteAgent(Counts())) as remote:
        remote(shared, t=2)
        assert shared["n"].flatten().tolist() == [0, 1, 1]
        with pytest.raises(WorkspaceError, match="shared"):
            remote(shared, t=3)


def test_statistics_kept_there_come_back_and_several_copies_of_them_are_refused():
    workspace = Workspace()
    workspace.set("x", 0, torch.tensor([1.0, 1.0]))
    with contextlib.closing(NRemoteAgent(KeepsMean(), 2)) as remote:
        remote(workspace, t=0)
        assert remote.agent.mean == 1.0
        assert workspace["mean"].tolist() == [[1.0, 1.0]]
        workspace.set("x", 0, torch.tensor([1.0, 3.0]))
        with pytest.raises(ConfigurationError, match="copies 0 and 1 of the agent have changed mean differently"):
            remote(workspace, t=0)


def test_an_asynchronous_agent_returns_at_once_and_shows_its_result_apart():
    expected = rollout(TemporalAgent(cartpole_graph()), n_chunks=2)
    with contextlib.closing(AsynchronousAgent(TemporalAgent(cartpole_graph()))) as agent:
        with pytest.raises(RemoteAgentError, match="has not been called"):
            agent.result()
        workspace = Workspace()
        agent(workspace, t=0, n_steps=30)
        with pytest.raises(RemoteAgentError, match="is still running"):
            agent(workspace, t=0, n_steps=30)
        result = agent.result()
        assert not agent.is_running()
        assert len(workspace) == 0
        assert_same_bits([result], expected[:1])
        result.copy_n_last_steps(1)
        agent(result, t=1, n_steps=30)
        result.clear()
        assert_same_bits([agent.result()], expected[1:])


def test_environments_of_a_slice_have_the_streams_that_they_have_in_the_whole_batch():
    with contextlib.closing(AutoResetGymAgent("CartPole-v1", 5, seed=3)) as env:
        whole = Workspace()
        env(whole, t=0)
        with pytest.raises(ConfigurationError, match="has 5 environments, and the batch 4"):
            env.for_slice(BatchSlice(0, 2, 4))
    with contextlib.closing(AutoResetGymAgent("CartPole-v1", 2, seed=3, first=3)) as env:
        part = Workspace()
        env(part, t=0)
    assert torch.equal(part["env/env_obs"], whole["env/env_obs"][:, 3:])
    with contextlib.closing(AutoResetGymAgent("CartPole-v1", 2, stepping="vectorized")) as env:
        env.for_slice(BatchSlice(0, 2, 2))
        with pytest.raises(ConfigurationError, match="one stream for their whole batch"):
            env.for_slice(BatchSlice(0, 1, 2))


def test_copies_go_on_where_their_state_was_taken():
    def build():
        env, policy = cartpole_graph()
        remote = NRemoteAgent(env, 2)
        return remote, TemporalAgent(Agents(remote, policy))

    expected = Workspace()
    remote, agent = build()
    with contextlib.closing(remote):
        agent(expected, t=0, n_steps=30)
        expected.copy_n_last_steps(1)
        stopped, state = expected.clone(), run_state(agent)
        agent(expected, t=1, n_steps=30)
    remote, agent = build()
    with contextlib.closing(remote):
        load_run_state(agent, state)
        agent(stopped, t=1, n_steps=30)
    assert_same_bits([stopped], [expected])


def test_the_global_generators_there_resume_also_from_a_state_of_version_0_1_0():
    with contextlib.closing(RemoteAgent(DrawsGlobally())) as remote:
        first, second = Workspace(), Workspace()
        remote(first, t=0)
        state = remote.run_state()
        remote(first, t=1)
        for states in state["copies"]:
            name, keys, *position = states["globals"]["numpy"]
            states["globals"] = {**states["globals"], "numpy": [name, keys.tolist(), *position]}
            del states["globals"]["cuda"]
        remote.load_run_state(state)
        remote(second, t=0)
    assert torch.equal(first["drawn"][1], second["drawn"][0])


def test_the_graph_check_looks_into_remote_agents_without_a_process():
    env, policy = cartpole_graph()
    remote = RemoteAgent(env)
    variables = {variable.name: variable for variable in check_graph(Agents(remote, policy))}
    assert variables["action"].readers == ("AutoResetGymAgent",)
    assert not remote.run_state()["copies"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RemoteAgent(Counts(), timeout=0), "timeout=0: expected a number of seconds above 0"),
        (lambda: NRemoteAgent(Counts(), 0), "n_processes=0: expected an integer of 1 or more"),
        (lambda: RemoteAgent("agent"), "runs an Agent, not a str"),
        (
            lambda: NRemoteAgent(Counts(2), 3)(Workspace(), t=0),
            r"n_processes=3: there are only 2 batch elements; possible: 1 … 2",
        ),
        (
            lambda: NRemoteAgent(Agents(Counts(2), DrawsAlone()), 2)(Workspace(), t=0),
            "DrawsAlone 'agents.1' has a random generator",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
