"""All that an agent can be given is listed as the command line writes it, and every argument is explained."""

from pathlib import Path
from typing import Any

import pytest

from bbrl_exp.commands.list import main
from bbrl_exp.config.agent_arguments import arguments_of_agent, composed_agent
from bbrl_exp.config.options import default_config_dir

AGENTS = sorted(path.stem for path in (default_config_dir() / "agent").glob("*.yaml"))


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "mine.yaml").write_text(
        "steps_per_chunk: 7\n"
        "members:\n"
        "  env: ${env.agent}\n"
        "  policy:\n"
        "    _target_: bbrl_exp.policies.stochastic.StochasticPolicy\n"
        "    hidden_sizes: [8, 8]\n"
        "learner:\n"
        "  _target_: bbrl_exp.learners.ppo.PPO\n"
        "  critic:\n"
        "    _target_: bbrl_exp.policies.values.ValueCritic\n"
        "  discount: 0.9\n",
        encoding="utf-8",
    )
    return composed_agent("mine", tmp_path)


def test_every_node_has_a_block_with_its_class(mine: dict[str, Any]) -> None:
    _, *blocks = arguments_of_agent(mine).split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [
        "agent.members.policy: bbrl_exp.policies.stochastic.StochasticPolicy",
        "agent.learner: bbrl_exp.learners.ppo.PPO",
        "agent.learner.critic: bbrl_exp.policies.values.ValueCritic",
    ]
    assert blocks[1].splitlines()[1].startswith("Learns a stochastic policy and a critic from each chunk")


def test_what_stands_in_the_file_is_changed_and_what_does_not_is_added(mine: dict[str, Any]) -> None:
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in arguments_of_agent(mine).splitlines() if line}
    assert lines["agent.steps_per_chunk=7"].startswith("time steps per chunk")
    assert lines["agent.learner.discount=0.9"] == "γ."
    assert lines["agent.members.policy.hidden_sizes=[8,8]"] == "units of the hidden layers."
    assert lines["+agent.learner.trace_decay=0.95"] == "λ of the advantages."
    assert lines["+agent.learner.normalize_advantages=true"].startswith("whether each minibatch")
    assert lines["+agent.learner.objective=clip"] == "clip or kl."
    assert lines["+agent.learner.value_clip_range=null"].endswith("null for no limit.")


def test_what_an_option_inherits_is_listed_and_what_its_new_class_does_not_take_is_not(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "base.yaml").write_text("defaults: [ppo, _self_]\nlearner: {discount: 0.5}\n")
    policy = "_target_: bbrl_exp.policies.random.RandomAgent"
    (tmp_path / "agent" / "mine.yaml").write_text(
        f"defaults: [base, _self_]\nsteps_per_chunk: 9\nmembers: {{rewards: null, policy: {{{policy}}}}}\n"
    )
    listed = arguments_of_agent(composed_agent("mine", tmp_path)).splitlines()
    words = [line.split() for line in listed]
    assert [line[0] for line in words if line and line[0].startswith("agent.members.")] == [
        "agent.members.rewards=null",
        "agent.members.policy:",
        "agent.members.policy.seed=${seed}",
    ]
    assert ["agent.members.rewards=null", "switched", "off"] in words
    assert [line[0] for line in words if line and "discount" in line[0]] == ["agent.learner.discount=0.5"]
    assert [line[0] for line in words if line and "steps_per_chunk" in line[0]] == ["agent.steps_per_chunk=9"]


def test_what_no_configuration_gives_is_left_out(mine: dict[str, Any]) -> None:
    listed = arguments_of_agent(mine)
    assert "env_spec" not in listed
    assert ".name=" not in listed
    assert "agent.learner.policy" not in listed
    assert "agent.learner.critic=" not in listed


@pytest.mark.parametrize("option", AGENTS)
def test_every_argument_of_every_agent_is_explained(option: str) -> None:
    listed = arguments_of_agent(composed_agent(option))
    arguments = [line.strip() for line in listed.splitlines() if line.startswith("  ")]
    assert [line for line in arguments if "  " not in line] == []
    assert len(arguments) > 0


def test_the_command_begins_with_what_the_agent_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "ppo"]) == 0
    first, _, *blocks = capsys.readouterr().out.splitlines()
    assert first.startswith("ppo: Proximal policy optimisation (Schulman et al., 2017)")
    assert any(line.startswith("  agent.learner.discount=0.99 ") for line in blocks)
