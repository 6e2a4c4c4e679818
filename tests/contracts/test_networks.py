"""Every policy and every critic takes a network of the user's own, and every learner learns its parameters."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from composed_agents import composed
from torch import nn
from toy_networks import HardToLearn

from bbrl_exp.config.graph import check_nodes
from bbrl_exp.config.nodes import marks
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import build_graph_and_learner
from bbrl_exp.config.targets import find_target
from bbrl_exp.learners.learner import Progress
from bbrl_exp.policies.observation import own_networks
from bbrl_exp.seeding import seed_global_generators
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

FEW = {"learning_starts": 32, "updates_per_step": 0.2, "batch_size": 4, "n_epochs": 1, "episodes_per_update": 1}
NETWORK = {"_target_": "toy_networks.HardToLearn"}
AGENTS = sorted(path.stem for path in (default_config_dir() / "agent").glob("*.yaml"))
WITHOUT_NETWORKS = ("random", "constant")
# Behaviour cloning needs a recording, and has the policy of others; a population learns its candidates.
LEARNED_BY_GRADIENTS = [each for each in AGENTS if each not in (*WITHOUT_NETWORKS, "mlp", "behaviour_cloning", "cem")]


def nodes_with_networks(node: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The nodes whose class takes a network, by key."""
    if isinstance(node, dict):
        if "_target_" in node and "network" in marks(find_target(node["_target_"], key)):
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
        node["network"] = dict(NETWORK)
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
def test_averages_of_batches_are_of_what_is_learned_from_and_targets_have_those_of_what_they_follow(agent: str) -> None:
    whole, networks, _ = run(agent)
    counts = [int(each.learned[1].num_batches_tracked) for each in networks]
    assert all(counts), counts
    for network in networks:
        assert network.learned[1].running_mean.abs().sum() > 0
    assert not any(each.training for each in networks if not each.learned[0].weight.requires_grad)


def test_acting_alone_changes_no_averages() -> None:
    _, networks, _ = run("mlp")
    assert [int(each.learned[1].num_batches_tracked) for each in networks] == [0]
    assert not networks[0].training
