"""The order of members, and the graph that is built from them."""

from typing import Any

import pytest

from bbrl_exp.agents.combinators import Agents
from bbrl_exp.config.check import check
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.graph import ordered_members
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import prepare
from bbrl_exp.config.run_size import RunSize
from bbrl_exp.errors import ConfigurationError, GraphError
from bbrl_exp.runs.run import build_graph
from bbrl_exp.workspace import Workspace


def order(members: dict[str, dict[str, Any]]) -> list[str]:
    return list(ordered_members(members, "agent.members"))


def test_members_run_as_written() -> None:
    assert order({"b": {}, "a": {}}) == ["b", "a"]


def test_after_and_before_place_a_member() -> None:
    assert order({"env": {}, "policy": {}, "p": {"after": "env"}}) == ["env", "p", "policy"]
    assert order({"env": {}, "policy": {}, "p": {"before": "env"}}) == ["p", "env", "policy"]


def test_several_after_the_same_member_keep_their_order() -> None:
    assert order({"env": {}, "policy": {}, "x": {"after": "env"}, "y": {"after": "env"}}) == ["env", "x", "y", "policy"]


def test_a_chain_is_followed_whatever_the_order_of_writing() -> None:
    assert order({"y": {"after": "x"}, "env": {}, "x": {"after": "env"}}) == ["env", "x", "y"]


def test_a_circle_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="x, y wait for each other"):
        order({"env": {}, "x": {"after": "y"}, "y": {"before": "x"}})


def test_an_unknown_anchor_is_refused_with_the_nearest_member() -> None:
    with pytest.raises(ConfigurationError, match="'polcy': no such member; did you mean 'policy'"):
        order({"policy": {}, "x": {"after": "polcy"}})


def test_a_member_cannot_say_both() -> None:
    with pytest.raises(ConfigurationError, match="both after and before"):
        order({"a": {}, "b": {}, "x": {"after": "a", "before": "b"}})


def test_the_graph_of_a_configuration_runs_on_a_workspace() -> None:
    graph = build_graph(["agent=mlp", "batch_size=3"])
    workspace = Workspace()
    graph(workspace, t=0, n_steps=5)
    graph.close()
    assert workspace["env/env_obs"].shape == (5, 3, 4)
    assert workspace["action"].shape == (5, 3)


def test_an_agent_is_added_from_overrides_alone() -> None:
    node = "{_target_: bbrl_exp.agents.tools.CopyTAgent, input_name: action, output_name: copied, after: policy}"
    graph = build_graph([f"+agent.members.copier={node}"])
    graph.close()
    assert isinstance(graph.agent, Agents)
    assert [member.name for member in graph.agent] == ["env", "policy", "copier"]


def test_a_graph_in_which_nobody_writes_what_somebody_reads_is_refused() -> None:
    with pytest.raises(GraphError, match="critic/value"):
        build_graph(["+agent.members.p={_target_: bbrl_exp.agents.tools.PrintAgent, names: [critic/value]}"])


def test_the_same_seed_builds_the_same_network() -> None:
    one, two, other = (build_graph(["agent=mlp", f"seed={seed}"]) for seed in (1, 1, 2))
    weights = [next(graph.parameters()) for graph in (one, two, other)]
    assert bool((weights[0] == weights[1]).all())
    assert not bool((weights[0] == weights[2]).all())
    for graph in (one, two, other):
        graph.close()


def prepared_size(composer: Composer, overrides: list[str]) -> RunSize:
    with prepare(check(composer.compose(overrides)), without_environments=True) as prepared:
        return prepared.run.size


def test_the_check_of_a_run_with_workers_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bbrl_exp.envs.kernels.WorkersKernel", None)
    with Composer(default_config_dir()) as composer:
        size = prepared_size(composer, ["env.workers=2", "env.stepping=workers"])
    # Observation, reward, four bools, timestep, cumulated reward and action of 8 environments.
    assert size.bytes_per_time_step == 8 * (16 + 4 + 4 + 8 + 4 + 8)


def test_the_plan_names_agents_that_the_learner_does_not_change() -> None:
    policy = "{_target_: bbrl_exp.policies.values.ValueCritic, hidden_sizes: [3], activation: tanh, seed: 0}"
    with Composer(default_config_dir()) as composer:
        of_learner, beside, no_learner = (
            prepared_size(composer, [*options, "env=cartpole"])
            for options in (
                ["agent=ppo"],
                ["agent=ppo", f"+agent.members.critic={policy}"],
                ["agent=mlp", f"+agent.members.critic={policy}"],
            )
        )
    assert of_learner.idle == no_learner.idle == {}
    assert beside.idle == {"ValueCritic 'critic'": 4 * 3 + 3 + 3 + 1}


def test_a_mistyped_batch_size_is_refused_before_a_row_is_made() -> None:
    with Composer(default_config_dir()) as composer, pytest.raises(ConfigurationError, match="of memory are there"):
        prepared_size(composer, ["batch_size=1_000_000_000_000"])


def test_lists_become_what_a_wrapper_takes_tuples_or_arrays() -> None:
    action = "{_target_: gymnasium.wrappers.RescaleAction, min_action: [-1.0], max_action: [1.0]}"
    shape = "{_target_: gymnasium.wrappers.ReshapeObservation, shape: [3, 1]}"
    graph = build_graph(
        ["agent=random", "env=pendulum", "batch_size=2", f"+env.wrappers.a={action}", f"+env.wrappers.b={shape}"]
    )
    workspace = Workspace()
    graph(workspace, t=0, n_steps=3)
    graph.close()
    assert workspace["env/env_obs"].shape == (3, 2, 3, 1)
    assert workspace["action"].abs().max() <= 1.0
