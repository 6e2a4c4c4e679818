"""All that an agent can be given is listed as the command line writes it, and every argument is explained."""

from pathlib import Path

import pytest

from bbrl_exp.commands.list import main
from bbrl_exp.config.agent_arguments import arguments_of_agent
from bbrl_exp.config.options import default_config_dir

AGENTS = sorted((default_config_dir() / "agent").glob("*.yaml"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(
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
    return file


def test_every_node_has_a_block_with_its_class(mine: Path) -> None:
    _, *blocks = arguments_of_agent(mine).split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [
        "agent.members.policy: bbrl_exp.policies.stochastic.StochasticPolicy",
        "agent.learner: bbrl_exp.learners.ppo.PPO",
        "agent.learner.critic: bbrl_exp.policies.values.ValueCritic",
    ]
    assert blocks[1].splitlines()[1].startswith("Learns a stochastic policy and a critic from each chunk")


def test_what_stands_in_the_file_is_changed_and_what_does_not_is_added(mine: Path) -> None:
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in arguments_of_agent(mine).splitlines() if line}
    assert lines["agent.steps_per_chunk=7"].startswith("time steps that the workspace holds")
    assert lines["agent.learner.discount=0.9"] == "γ."
    assert lines["agent.members.policy.hidden_sizes=[8,8]"] == "units of the hidden layers."
    assert lines["+agent.learner.trace_decay=0.95"] == "λ of the advantages."
    assert lines["+agent.learner.normalize_advantages=true"].startswith("whether each minibatch")
    assert lines["+agent.learner.objective=clip"] == "clip or kl."
    assert lines["+agent.learner.value_clip_range=null"].endswith("null for no limit.")


def test_what_no_configuration_gives_is_left_out(mine: Path) -> None:
    listed = arguments_of_agent(mine)
    assert "env_spec" not in listed
    assert ".name=" not in listed
    assert "agent.learner.policy" not in listed
    assert "agent.learner.critic=" not in listed


@pytest.mark.parametrize("file", AGENTS, ids=lambda file: file.stem)
def test_every_argument_of_every_agent_is_explained(file: Path) -> None:
    arguments = [line.strip() for line in arguments_of_agent(file).splitlines() if line.startswith("  ")]
    assert [line for line in arguments if "  " not in line] == []
    assert len(arguments) > 0


def test_the_command_begins_with_what_the_agent_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "ppo"]) == 0
    first, _, *blocks = capsys.readouterr().out.splitlines()
    assert first.startswith("ppo: Proximal policy optimisation (Schulman et al., 2017)")
    assert any(line.startswith("  agent.learner.discount=0.99 ") for line in blocks)
