"""Critics write and compute the same values, alone or on the policy's trunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import Critic, SharedTrunkCritic, ValueCritic
from bbrl_exp.workspace import Workspace

B = 3
VECTOR = LeafSpec("env/env_obs", "box", (4,), "float32", low=np.full(4, -1.0), high=np.full(4, 1.0))
IMAGE = LeafSpec("env/env_obs", "box", (2, 9, 9), "uint8", low=np.zeros((2, 9, 9)), high=np.full((2, 9, 9), 255))
CHOICE = LeafSpec("action", "discrete", (), "int64", counts=np.array(3), start=np.array(0))


def spec(observation: LeafSpec) -> EnvSpec:
    return EnvSpec("Toy", B, (observation,), (CHOICE,))


def observations(leaf: LeafSpec, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if leaf.dtype == "uint8":
        return torch.randint(256, (n, *leaf.shape), generator=generator, dtype=torch.uint8)
    return torch.rand(n, *leaf.shape, generator=generator)


def critics(leaf: LeafSpec) -> dict[str, Critic]:
    return {
        "separate": ValueCritic(spec(leaf), hidden_sizes=[8]),
        "shared": SharedTrunkCritic(StochasticPolicy(spec(leaf), hidden_sizes=[8])),
    }


@pytest.mark.parametrize("kind", ["separate", "shared"])
@pytest.mark.parametrize("leaf", [VECTOR, IMAGE], ids=["vector", "image"])
def test_the_values_that_are_written_are_those_that_are_computed(kind: str, leaf: LeafSpec) -> None:
    critic, seen = critics(leaf)[kind], observations(leaf, 2 * B)
    workspace = Workspace()
    for t in range(2):
        workspace.set("env/env_obs", t, seen[t * B : (t + 1) * B])
    TemporalAgent(critic)(workspace, t=0, n_steps=2)
    assert workspace["critic/value"].shape == (2, B)
    torch.testing.assert_close(workspace["critic/value"].flatten(), critic.values([seen]))


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_an_observation_has_one_value_whoever_stands_beside_it(kind: str) -> None:
    critic, seen = critics(VECTOR)[kind], observations(VECTOR, 5)
    alone = torch.cat([critic.values([row.unsqueeze(0)]) for row in seen])
    torch.testing.assert_close(critic.values([seen]), alone)


@pytest.mark.parametrize("leaf", [VECTOR, IMAGE], ids=["vector", "image"])
def test_a_shared_critic_uses_what_the_policy_has_computed(leaf: LeafSpec) -> None:
    policy = StochasticPolicy(spec(leaf), hidden_sizes=[8])
    critic, seen = SharedTrunkCritic(policy), [observations(leaf, B)]
    assert torch.equal(critic.values(seen), critic.values(seen, policy.latent(seen)))
    assert policy.n_latent == 8
    torch.testing.assert_close(critic.values(seen), critic.output(policy.latent(seen)).squeeze(1))


def test_a_separate_critic_has_nothing_of_the_policy() -> None:
    policy, critic = StochasticPolicy(spec(VECTOR)), ValueCritic(spec(VECTOR))
    assert not set(policy.parameters()) & set(critic.parameters())
    before = critic.values([observations(VECTOR, B)])
    other = critic.values([observations(VECTOR, B)], torch.zeros(B, policy.n_latent))
    assert torch.equal(before, other)


def test_gradients_of_a_shared_critic_reach_convolutions_and_not_the_policys_heads() -> None:
    policy = StochasticPolicy(spec(IMAGE), hidden_sizes=[8])
    SharedTrunkCritic(policy).values([observations(IMAGE, B)]).sum().backward()
    reached = {name for name, parameter in policy.named_parameters() if parameter.grad is not None}
    assert {"features.parts.0.layers.0.weight", "network.layers.0.weight"} <= reached
    assert not any(name.startswith(("heads", "network.layers.1")) for name in reached)


def test_a_policy_without_hidden_layers_shares_its_features() -> None:
    policy = StochasticPolicy(spec(VECTOR), hidden_sizes=[])
    assert policy.n_latent == 4
    assert SharedTrunkCritic(policy).values([observations(VECTOR, B)]).shape == (B,)


def test_the_same_seed_gives_the_same_critic_and_another_seed_another() -> None:
    seen = [observations(VECTOR, B)]
    one, same, other = (ValueCritic(spec(VECTOR), seed=seed).values(seen) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_critic_runs_as_a_member_of_the_graph_with_a_prefix() -> None:
    critic = ValueCritic(spec(VECTOR)).with_prefix("target/")
    workspace = Workspace()
    workspace.set("env/env_obs", 0, observations(VECTOR, B))
    Agents(critic)(workspace, t=0)
    assert "target/critic/value" in workspace


def test_a_critic_reads_the_normalised_observation() -> None:
    critic = ValueCritic(spec(VECTOR), observation_prefix="normalized/")
    assert critic.features.names == ("normalized/env/env_obs",)
