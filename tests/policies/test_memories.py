"""The memories of a graph as they are looked at from outside: whose they are, and what their agents make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents
from bbrl_exp.config.compose import Composer, resolve
from bbrl_exp.config.graph import build_graph_of, env_spec_of
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.memories import HasMemoryHead, memories_of
from bbrl_exp.policies.memory import Memory
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_recurrent_ensemble import RecurrentQEnsemble
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy
from bbrl_exp.policies.recurrent_squashed import RecurrentSquashedPolicy
from bbrl_exp.workspace import Workspace

N_STEPS = 5
SPEC = EnvSpec("Toy", 1, (LeafSpec.box("env/env_obs", (2,), -9, 9),), (LeafSpec.discrete("action", 3),))
INPUTS = ("observation", "action")
WITH_MEMORY = sorted(path.stem for path in (default_config_dir() / "agent").glob("recurrent_*.yaml"))


class Wrapping(Agent):
    """An agent around another one."""

    def __init__(self, inner: Agent) -> None:
        super().__init__("wrapping")
        self.inner = inner


class Headless(Agent):
    """An agent that does not say what it makes of its memory."""

    def __init__(self) -> None:
        super().__init__("headless")
        self.memory = Memory(SPEC, "headless", LSTM)


def episode(agent: Agent) -> Workspace:
    """An episode of the agent from its beginning."""
    workspace, generator = Workspace(), torch.Generator().manual_seed(3)
    for t in range(N_STEPS):
        workspace.set("env/env_obs", t, torch.randn(1, 2, generator=generator))
        workspace.set("env/initial_state", t, torch.tensor([t == 0]))
        if isinstance(agent, MemoryCritic):
            workspace.set("action", t, torch.tensor([t % 3]))
        agent(workspace, t=t)
    return workspace


def test_memories_are_found_in_the_order_of_the_graph_with_the_innermost_agent() -> None:
    policy, critic = RecurrentPolicy(SPEC), MemoryCritic(SPEC).with_prefix("target/")
    found = memories_of(nn.Sequential(Agents(Wrapping(policy), critic)))
    assert [each.agent for each in found] == [policy, critic]
    assert [each.state_name for each in found] == ["policy/state", "target/critic/state"]


@pytest.mark.parametrize("make", [RecurrentPolicy, RecurrentQPolicy])
def test_the_head_of_a_policy_over_an_episode_prefers_the_actions_that_were_most_likely(
    make: type[RecurrentPolicy] | type[RecurrentQPolicy],
) -> None:
    policy = make(SPEC, LSTM, INPUTS, head_sizes=[5], seed=1).eval()
    workspace = episode(policy)
    (owned,) = memories_of(policy)
    inputs = owned.inputs(workspace)
    assert inputs.shape == (N_STEPS, 1, 2 + 3)
    outputs = owned.head_of(inputs.expand(-1, 2, -1), [workspace["action"][:, 0]])
    assert outputs.shape == (N_STEPS, 2, 3)
    assert torch.equal(outputs.argmax(dim=2), workspace["action"].expand(-1, 2))


def test_the_head_of_a_critic_over_an_episode_gives_its_values() -> None:
    critic = MemoryCritic(SPEC, GRU, INPUTS, head_sizes=[5], seed=1)
    workspace = episode(critic)
    (owned,) = memories_of(critic)
    values = owned.head_of(owned.inputs(workspace), [workspace["action"][:, 0]]).squeeze(2)
    torch.testing.assert_close(values, workspace["critic/value"], atol=1e-6, rtol=1e-5)


def test_the_heads_of_soft_actor_critic_give_the_actions_that_were_taken_and_their_values() -> None:
    spec = EnvSpec("Toy", 1, SPEC.observations, (LeafSpec.box("action", (2,), -3, 3),))
    policy, critic = (
        RecurrentSquashedPolicy(spec, GRU, INPUTS, seed=1).eval(),
        RecurrentQEnsemble(spec, cell=LSTM, seed=1),
    )
    workspace = episode(Agents(policy, critic))
    action = workspace["action"][:, 0]
    of_policy, of_critic = memories_of(Agents(policy, critic))
    outputs = of_policy.head_of(of_policy.inputs(workspace), [action])
    torch.testing.assert_close(3 * outputs[:, 0, :2].tanh(), action, atol=1e-6, rtol=1e-5)
    values = of_critic.head_of(of_critic.inputs(workspace).expand(-1, 3, -1), [action])
    rows = [workspace[name] for name in critic.memory.names]
    latent = critic.latent(rows, workspace["critic/state"][0], workspace["env/initial_state"])
    expected = critic.values(latent[:, 0], action / 3).T.unsqueeze(1).expand(-1, 3, -1)
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=1e-5)


def test_without_a_head_the_outputs_are_those_of_the_cell() -> None:
    (owned,) = memories_of(Headless())
    assert owned.head_in_words == "memory's outputs"
    assert owned.head_of(torch.zeros(N_STEPS, 2, 2), []).shape == (N_STEPS, 2, 64)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_every_agent_with_a_memory_says_what_it_makes_of_it(name: str) -> None:
    is_continuous = OmegaConf.load(default_config_dir() / "agent" / f"{name}.yaml").action_space == "continuous"
    with Composer(default_config_dir()) as composer:
        env = "probe_memory_continuous" if is_continuous else "probe_memory"
        graph = build_graph_of(resolve(composer.compose([f"agent={name}", f"env={env}"])))
    graph.close()
    spec = env_spec_of(graph)
    assert spec is not None
    actions = [torch.from_numpy(np.zeros((N_STEPS, *leaf.shape), leaf.dtype)) for leaf in spec.actions]
    found = memories_of(graph)
    assert found
    for each in found:
        assert isinstance(each.agent, HasMemoryHead)
        inputs = torch.zeros(N_STEPS, 2, each.memory.inputs.n_features)
        assert each.head_of(inputs, actions).shape[:2] == (N_STEPS, 2)
