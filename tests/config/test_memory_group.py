"""The group memory: what an agent with a memory remembers by, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bbrl_exp.commands.list import main as list_main
from bbrl_exp.config.check import CheckedRun, check, check_contents
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import prepare
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy

CELLS = sorted(path.stem for path in (default_config_dir() / "memory").glob("*.yaml"))
AGENTS = sorted(path.stem for path in (default_config_dir() / "agent").glob("recurrent_*.yaml"))
OWN_CRITIC = [
    "~agent.learner.critic",
    "+agent.members.critic={_target_: bbrl_exp.policies.recurrent.MemoryCritic, cell: ${memory.cell}, "
    "inputs: ${memory.inputs}, observation_prefix: normalized/}",
]


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with Composer(default_config_dir()) as composer:
        yield composer


def checked(composer: Composer, *overrides: str) -> CheckedRun:
    return check(composer.compose(list(overrides)))


def refusal(composer: Composer, *overrides: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        prepare(checked(composer, *overrides), without_environments=True)
    return str(caught.value)


def members_of(composer: Composer, *overrides: str) -> dict[str, Any]:
    prepared = prepare(checked(composer, *overrides), without_environments=True)
    return {agent.name: agent for agent in prepared.graph.agent}  # type: ignore[attr-defined]


def test_only_agents_with_a_memory_have_the_key(composer: Composer) -> None:
    assert "memory" not in checked(composer, "agent=ppo").written
    run = checked(composer, "agent=recurrent_ppo")
    assert run.choices["memory"] == "gru"
    assert run.written["memory"]["inputs"] == ["observation"]


def test_the_policy_has_the_cell_that_was_chosen_and_sees_what_was_asked_for(composer: Composer) -> None:
    chosen = ["memory=lstm", "memory.cell.n_hidden=5", "memory.inputs=[reward,observation]"]
    members = members_of(composer, "agent=recurrent_ppo", "env=masked_cartpole", *chosen, *OWN_CRITIC)
    policy, critic = members["policy"], members["critic"]
    assert isinstance(policy, RecurrentPolicy)
    assert isinstance(critic, MemoryCritic)
    for agent in (policy, critic):
        assert isinstance(agent.memory.cell, LSTM)
        assert (agent.memory.cell.n_hidden, agent.memory.cell.n_inputs) == (5, 3)
        assert agent.memory.names == ("normalized/env/env_obs", "env/reward")
    policy = members_of(composer, "agent=recurrent_dqn", "env=masked_cartpole")["policy"]
    assert isinstance(policy.network.memory.cell, GRU)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["agent=ppo", "memory=gru"],
            f"key 'memory' = 'gru': the agent ppo has no memory; agents with one: {', '.join(AGENTS)}",
        ),
        (
            ["agent=ppo", "+memory.cell.n_hidden=3"],
            f"key 'memory': the agent ppo has no memory; agents with one: {', '.join(AGENTS)}",
        ),
        (
            ["agent=ppo", "memory.cell.n_hidden=3"],
            "key 'memory.cell.n_hidden': the agent has no memory; choose one that has, such as agent=recurrent_ppo",
        ),
        (
            ["~memory"],
            "key 'memory.cell' is missing, and the agent recurrent_ppo refers to it; every option of the group has "
            f"it: {', '.join(f'memory={name}' for name in CELLS)}",
        ),
        (
            ["~memory.inputs"],
            "key 'memory.inputs' is missing, and the agent recurrent_ppo refers to it; every option of the group has "
            f"it: {', '.join(f'memory={name}' for name in CELLS)}",
        ),
        (["memory=null"], f"key 'memory' = null: must be one of {', '.join(CELLS)}"),
        (["memory=gur"], f"key 'memory' = 'gur': no such option; did you mean 'gru'? allowed: {', '.join(CELLS)}"),
        (["+memory.size=3"], "key 'memory.size' is not known; known below 'memory': cell, inputs"),
        (
            ["memory.inputs=reward"],
            "key 'memory.inputs' = 'reward': must be a list of observation, action, reward, at least one",
        ),
        (["memory.inputs=[]"], "key 'memory.inputs' = []: must be a list, at least one of observation, action, reward"),
        (
            ["memory.inputs=[rewards]"],
            "key 'memory.inputs' = [rewards]: no such input 'rewards'; did you mean 'reward'? allowed: observation, "
            "action, reward",
        ),
        (["memory.cell.n_hidden=0"], "key 'memory.cell.n_hidden' = 0: must be at least 1"),
        (["+memory.cell.units=3"], "key 'memory.cell': GRU has no parameter 'units'; known: n_hidden"),
        (["+memory.cell.n_inputs=3"], "key 'memory.cell.n_inputs': RecurrentPolicy fills it in; remove it"),
        (
            ["memory.cell._target_=torch.nn.GRU"],
            "key 'memory.cell._target_' = 'torch.nn.GRU': must be a bbrl_exp.nn.cell.Cell with a parameter n_inputs",
        ),
        (
            ["agent.members.policy.kind=lstm"],
            "key 'agent.members.policy.kind': is now the memory's cell: memory=gru or memory=lstm (in Python "
            "cell=GRU or cell=LSTM)",
        ),
        (
            ["+agent.members.policy.n_hidden=8"],
            "key 'agent.members.policy.n_hidden' = 8: is now the memory's: memory.cell.n_hidden=… (in Python "
            "cell=partial(GRU, n_hidden=…))",
        ),
        (
            [*OWN_CRITIC[:1], OWN_CRITIC[1].replace("inputs: ${memory.inputs}, ", ""), "memory.inputs=[action]"],
            "key 'agent.learner': RecurrentPPO: critic: sees observation, and the policy action; give both the same "
            "inputs",
        ),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], message: str, composer: Composer) -> None:
    agent = [] if overrides[0].startswith("agent=") else ["agent=recurrent_ppo"]
    assert refusal(composer, *agent, "env=masked_cartpole", *overrides) == message


def test_a_configuration_of_an_earlier_version_is_refused_and_the_new_key_named(composer: Composer) -> None:
    config = checked(composer, "agent=recurrent_ppo", "env=masked_cartpole").config
    old = {**config, "memory": None}
    policy = {"_target_": config["agent"]["members"]["policy"]["_target_"], "kind": "gru", "n_hidden": 64}
    old["agent"] = {**config["agent"], "members": {**config["agent"]["members"], "policy": policy}}
    message = "^a folder: key 'agent.members.policy.kind' = 'gru': is now the memory's cell: memory=gru or memory=lstm"
    with pytest.raises(ConfigurationError, match=message):
        check_contents(old, "a folder")


def test_an_agent_of_the_users_own_chooses_an_option_of_the_users_own(tmp_path: Path) -> None:
    for name in ("agent", "memory"):
        (tmp_path / name).mkdir()
    (tmp_path / "memory" / "wide.yaml").write_text(
        "cell: {_target_: bbrl_exp.nn.recurrent.GRU, n_hidden: 9}\ninputs: [action]\n"
    )
    (tmp_path / "agent" / "mine.yaml").write_text(
        "defaults: [recurrent_dqn, _self_, {override /memory@_global_.memory: wide}]\nsteps_per_chunk: 4\n"
    )
    with Composer(default_config_dir(), extra_dir=tmp_path) as composer:
        mine = members_of(composer, "agent=mine", "env=masked_cartpole")["policy"].network.memory
        assert (mine.cell.n_hidden, mine.names) == (9, ("policy/previous_action",))
        other = members_of(composer, "agent=mine", "env=masked_cartpole", "memory=lstm")["policy"].network.memory
        assert isinstance(other.cell, LSTM)
        assert refusal(composer, "agent=dqn", "memory=wide").endswith(f"agents with one: mine, {', '.join(AGENTS)}")


def test_the_list_shows_the_memory_of_an_agent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_main(["agent", "recurrent_dqn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("memory")
    assert lines[first + 2].split()[0] == 'memory.inputs=["observation"]'
    assert lines[first + 4 :] == [
        "memory.cell: bbrl_exp.nn.recurrent.GRU",
        "A gated recurrent unit.",
        "  memory.cell.n_hidden=64  units, number H of outputs.",
    ]
    assert list_main(["memory"]) == 0
    assert " lstm A long short-term memory" in " ".join(capsys.readouterr().out.split())


def test_the_same_seed_gives_the_same_weights_whatever_is_drawn_elsewhere(composer: Composer) -> None:
    one = members_of(composer, "agent=recurrent_ppo", "env=masked_cartpole")["policy"].state_dict()
    torch.rand(3)
    two = members_of(composer, "agent=recurrent_ppo", "env=masked_cartpole")["policy"].state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
