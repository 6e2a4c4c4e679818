"""A configuration as a command line and as an experiment: both give it again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bbrl_exp.config.compose import Composer
from bbrl_exp.config.identity import identity_hash
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.overrides import parse
from bbrl_exp.search.best import as_command, as_experiment, as_text, difference_of

TITLE = "The best."
CASES = [
    ["agent=ppo", "env=cartpole", "agent.learner.learning_rate=1e-5", "total_steps=2000"],
    ["experiment=sac_pendulum", "agent.members.policy.hidden_sizes=[32,32]", "seed=7"],
    ["search=td3", "env=pendulum", "agent.learner.critic_learning_rate=0.002", "tracking=none"],
    [
        "agent=mlp",
        "env=masked_cartpole",
        "+agent.members.extra={_target_: bbrl_exp.agents.tools.PrintAgent, names: [a b]}",
    ],
]


@pytest.mark.parametrize("overrides", CASES, ids=str)
def test_the_command_gives_the_configuration_again(overrides: list[str], composer: Composer) -> None:
    config = composer.compose([*overrides, "seed=3"])
    command = as_command(difference_of(config, composer.compose))
    assert command[:2] == ["bbrl-exp", "run"]
    expected = composer.compose([*overrides, "seed=3", "eval.seed=0"])
    assert identity_hash(composer.compose([*command[2:], "seed=3"])) == identity_hash(expected)


@pytest.mark.parametrize("overrides", CASES, ids=str)
def test_the_experiment_gives_the_configuration_again(overrides: list[str], composer: Composer, tmp_path: Path) -> None:
    config = composer.compose([*overrides, "seed=3"])
    text = as_experiment(difference_of(config, composer.compose), TITLE)
    shutil.copytree(default_config_dir(), tmp_path / "conf")
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text)
    with Composer(tmp_path / "conf") as other:
        again = other.compose(["experiment=mine", "seed=3"])
    expected = composer.compose([*overrides, "seed=3", "eval.seed=0"])
    assert identity_hash(again) == identity_hash(expected)
    assert text.splitlines()[:2] == ["# @package _global_", f"# {TITLE}"]


def test_a_folder_of_options_of_ones_own_is_in_the_command(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("defaults: [cartpole, _self_]\nkwargs: {}\n")
    with Composer(default_config_dir(), extra_dir=tmp_path) as composer:
        difference = difference_of(composer.compose(["env=mine"]), composer.compose, composer.extra_dir)
    assert as_command(difference) == ["bbrl-exp", "run", "--config-dir", str(tmp_path), "agent=random", "env=mine"]


def test_what_a_search_found_is_not_reported_on_the_episodes_of_the_search(composer: Composer) -> None:
    config = composer.compose(["search=ppo", "env=cartpole", "eval.episodes=3"])
    assert config.eval.seed == 1
    difference = difference_of(config, composer.compose)
    assert difference.overrides == ["agent=ppo", "env=cartpole", "eval.episodes=3"]


def test_a_key_that_was_removed_is_removed_by_the_command_and_named_in_the_experiment(composer: Composer) -> None:
    config = composer.compose(["agent=random", "~agent.members.policy.seed"])
    difference = difference_of(config, composer.compose)
    assert difference.overrides == ["agent=random", "env=cartpole", "~agent.members.policy.seed"]
    assert "add to the command: ~agent.members.policy.seed" in as_experiment(difference, TITLE)


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.5,
        1e-06,
        True,
        None,
        "relu",
        "1",
        "true",
        "a b",
        "it's",
        "${seed}",
        "",
        [1, [2, "x y"]],
        {"a": {"b": [1, "c,d"]}},
    ],
    ids=repr,
)
def test_a_value_is_read_as_it_was(value: object, composer: Composer) -> None:
    (override,) = parse([f"key={as_text(value)}"])
    assert override.value() == value
    assert type(override.value()) is type(value)
