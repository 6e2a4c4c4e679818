"""Every policy and every critic takes a network of the user's own, and every learner learns its parameters."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from composed_agents import composed
from torch import nn
from toy_networks import HardToLearn

from bbrl_exp.agents.remote import RemoteAgent
from bbrl_exp.arguments import NodeOf, marks_of
from bbrl_exp.config.graph import check_nodes
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import build_graph_and_learner
from bbrl_exp.config.targets import find_target
from bbrl_exp.data.recording import save_recording
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.behaviour_cloning import BehaviourCloning
from bbrl_exp.learners.cem import CrossEntropyMethod
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.target_follower import TargetFollower
from bbrl_exp.policies.observation import ObservationFeatures, own_networks
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.seeding import seed_global_generators
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

FEW = {"learning_starts": 32, "updates_per_step": 0.1, "batch_size": 4, "n_epochs": 1, "episodes_per_update": 1}
NETWORK = {"_target_": "toy_networks.HardToLearn"}
AGENTS = sorted(path.stem for path in (default_config_dir() / "agent").glob("*.yaml"))
SPEC = EnvSpec("Toy", 1, (LeafSpec("env/env_obs", "box", (4,), "float32"),), ())
WITHOUT_NETWORKS = ("random", "constant")
# Behaviour cloning needs a recording, and has the policy of others; a population learns its candidates.
LEARNED_BY_GRADIENTS = [each for each in AGENTS if each not in (*WITHOUT_NETWORKS, "mlp", "behaviour_cloning", "cem")]


def nodes_with_networks(node: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The nodes whose class takes a network, by key."""
    if isinstance(node, dict):
        if "_target_" in node and "network" in marks_of(find_target(node["_target_"], key), NodeOf):
            yield key, node
        for name, child in node.items():
            yield from nodes_with_networks(child, f"{key}.{name}")


def with_networks(agent: str) -> tuple[dict[str, Any], list[str]]:
    """The configuration of an agent with a network wherever there can be one, and the keys of these places."""
    config = copy.deepcopy(composed(agent, batch_size=2))
    learner = config["agent"]["learner"]
    if learner is not None:
        learner |= {name: value for name, value in FEW.items() if name in learner}
    found = []
    for key, node in [*nodes_with_networks(config["graph"], "graph"), *nodes_with_networks(config["agent"], "agent")]:
        node |= {"network": dict(NETWORK), **({"hidden_sizes": [8]} if node.get("hidden_sizes") else {})}
        found.append(key)
    return config, found


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BBRL_EXP_ALLOW", "toy_networks")


def run(agent: str, n_chunks: int = 5) -> tuple[nn.Module, list[HardToLearn], list[dict[str, torch.Tensor]]]:
    """What an agent with networks is after a few chunks; the networks of policy and critic, and what they were."""
    config, _ = with_networks(agent)
    check_nodes(config)
    seed_global_generators(0)
    graph, learner, _ = build_graph_and_learner(config)
    whole: nn.Module = graph if learner is None else learner
    networks = [each for each in own_networks(nn.ModuleList([graph, whole])) if isinstance(each, HardToLearn)]
    before = [copy.deepcopy(each.state_dict()) for each in networks]
    workspace, total_steps = Workspace(), 64 * n_chunks
    with contextlib.closing(graph):
        for chunk in collect(graph, workspace, total_steps=total_steps, batch_size=2, steps_per_chunk=32):
            if learner is not None:
                learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, total_steps, chunk.new_steps))
    return whole, networks, before


def test_every_agent_but_those_without_parameters_has_places_for_networks() -> None:
    places = {agent: with_networks(agent)[1] for agent in AGENTS}
    assert {agent for agent, keys in places.items() if not keys} == set(WITHOUT_NETWORKS)
    with_critics = {agent for agent, keys in places.items() if "agent.learner.critic" in keys}
    assert with_critics == {"a2c", "crossq", "ddpg", "discrete_sac", "droq", "ppo", "reinforce", "sac", "td3", "tqc"}


@pytest.mark.parametrize("agent", LEARNED_BY_GRADIENTS)
def test_every_learner_learns_the_network_and_leaves_its_frozen_parameters(agent: str) -> None:
    whole, networks, before = run(agent)
    learned = [each for each in networks if each.learned[0].weight.requires_grad]
    assert len(learned) == sum(each.learned[0].weight.requires_grad for each in own_networks(whole)) > 0
    for network, state in zip(networks, before, strict=True):
        after = network.state_dict()
        if network in learned:
            assert not torch.equal(after["learned.0.weight"], state["learned.0.weight"])
        assert torch.equal(after["frozen.weight"], state["frozen.weight"])
        assert torch.equal(after["unused"], state["unused"])
        assert all(value.isfinite().all() for value in after.values())


@pytest.mark.parametrize("agent", LEARNED_BY_GRADIENTS)
def test_averages_are_of_the_batches_that_are_learned_from_and_targets_have_them_too(agent: str) -> None:
    _, networks, _ = run(agent)
    for network in networks:
        assert int(network.learned[1].num_batches_tracked) > 0
        assert network.learned[1].running_mean.abs().sum() > 0
        assert not (network.training and not network.learned[0].weight.requires_grad)


@pytest.mark.parametrize("period", [8, None])
def test_a_target_network_has_the_averages_of_the_network_that_it_follows(period: int | None) -> None:
    source, target = (ObservationFeatures(SPEC, network=HardToLearn) for _ in range(2))
    follower = TargetFollower(target, source, period=period, rate=None if period else 0.5, updates_per_step=0.25)
    for n_updates, is_copied in ((1, period is None), (2, True)):
        source([torch.rand(5, 4)])
        follower.follow(n_updates)
        (of_source,), (of_target,) = (
            [dict(each.named_buffers()) for each in own_networks(one)] for one in (source, target)
        )
        same = {name: torch.equal(buffer, of_target[name]) for name, buffer in of_source.items()}
        assert set(same) == {f"learned.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
        assert set(same.values()) == {is_copied}


def test_acting_alone_changes_no_averages() -> None:
    _, networks, _ = run("mlp")
    assert [int(each.learned[1].num_batches_tracked) for each in networks] == [0]
    assert not networks[0].training


def test_a_population_learns_the_parameters_of_the_network() -> None:
    learner, networks, _ = run("cem", n_chunks=30)
    assert isinstance(learner, CrossEntropyMethod)
    n_learned = 5 * 6 + 6 + 6 + 6 + 3  # weight and bias of the layer, those of the averages, the unused ones
    assert learner.policy.mean.shape == (n_learned + (6 + 1) * 2,)
    initial = torch.cat([each.flatten() for each in networks[0].parameters() if each.requires_grad])
    assert not torch.equal(learner.policy.mean[:n_learned], initial.detach())


def test_a_cloned_behaviour_is_learned_by_the_network(tmp_path: Path) -> None:
    config, _ = with_networks("mlp")
    graph, _, _ = build_graph_and_learner(config)
    workspace = Workspace()
    with contextlib.closing(graph):
        list(collect(graph, workspace, total_steps=64, batch_size=2, steps_per_chunk=32))
    save_recording(tmp_path / "recording.pt", workspace, "CartPole-v1")
    (policy,) = graph.get_by_name("policy")
    assert isinstance(policy, StochasticPolicy)
    learner = BehaviourCloning(policy, str(tmp_path / "recording.pt"), minibatch_size=16)
    (network,) = own_networks(learner)
    assert isinstance(network, HardToLearn)
    before = network.learned[0].weight.detach().clone()
    learner.update(Workspace(), Progress(0, 100, 100, 100))
    assert not torch.equal(network.learned[0].weight, before)
    assert not network.training  # the last loss is that of the part that is held out


def test_a_remote_policy_acts_with_its_network() -> None:
    def rollout(is_remote: bool) -> Workspace:
        config, _ = with_networks("mlp")
        graph, _, _ = build_graph_and_learner(config)
        agent = RemoteAgent(graph) if is_remote else graph
        workspace = Workspace()
        with contextlib.closing(agent), torch.no_grad():
            agent(workspace, t=0, n_steps=20)
        return workspace

    assert torch.equal(rollout(is_remote=True)["action"], rollout(is_remote=False)["action"])


@pytest.mark.parametrize(
    ("agent", "complaint"),
    [
        ("discrete_sac", "DiscreteSAC needs a DiscreteQEnsemble, not a SharedTrunkCritic"),
        ("sac", "SharedTrunkCritic: policy: SharedTrunkCritic needs a StochasticPolicy, not a SquashedNormalPolicy"),
    ],
)
def test_off_policy_a_trunk_is_not_shared(agent: str, complaint: str) -> None:
    config, _ = with_networks(agent)
    config["agent"]["learner"]["critic"] = {"_target_": "bbrl_exp.policies.values.SharedTrunkCritic"}
    with pytest.raises(ConfigurationError) as refused:
        build_graph_and_learner(config)
    assert str(refused.value) == f"key 'agent.learner.critic': {complaint}"


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (
            {"_target_": "torch.nn.Linear", "out_features": 3},
            "key 'agent.learner.critic.network._target_' = 'torch.nn.Linear': must be a torch.nn.Module with a "
            "parameter input_shape",
        ),
        (
            {**NETWORK, "input_shape": [4]},
            "key 'agent.learner.critic.network.input_shape': ValueCritic fills it in; remove it",
        ),
        (
            {**NETWORK, "n_feature": 3},
            "key 'agent.learner.critic.network': HardToLearn has no parameter 'n_feature'; did you mean 'n_features'? "
            "known: n_features, stated",
        ),
        (
            {**NETWORK, "n_features": "many"},
            "key 'agent.learner.critic.network.n_features' = 'many': must be an integer (HardToLearn)",
        ),
        ("deep", "key 'agent.learner.critic.network' = 'deep': must be a node with a _target_ or null (ValueCritic)"),
    ],
)
def test_a_node_that_is_no_network_is_refused_before_anything_is_built(network: object, complaint: str) -> None:
    config, _ = with_networks("ppo")
    config["agent"]["learner"]["critic"]["network"] = network
    with pytest.raises(ConfigurationError) as refused:
        check_nodes(config)
    assert str(refused.value) == complaint


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (
            {**NETWORK, "stated": 7},
            "HardToLearn gives float32 [3, 6] for observations [3, 4]; must be float32 [3, 7] (n_features=7)",
        ),
        (
            {"_target_": "toy_networks.OfParts"},
            "OfParts refuses its arguments: tuple indices must be integers or slices, not str (input_shape=(4,))",
        ),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_with_its_key(network: dict[str, Any], complaint: str) -> None:
    config, _ = with_networks("ppo")
    config["agent"]["learner"]["critic"]["network"] = network
    with pytest.raises(ConfigurationError) as refused:
        build_graph_and_learner(config)
    assert str(refused.value) == f"key 'agent.learner.critic.network': {complaint}"
