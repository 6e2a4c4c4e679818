"""Which runs are one setting, and what the settings are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.reports.grouping import Groups, group, repeats
from bbrl_exp.reports.run_folder import Run


def run(agent: str = "ppo", env: str = "cartpole", seed: int = 0, env_id: str | None = None, **config: str) -> Run:
    settings = {key.replace("__", "."): value for key, value in config.items()}
    return Run(
        folder=Path(f"{agent}{env}{seed}"),
        status="completed",
        agent=agent,
        env=env,
        env_id=env_id or f"{env}-v1",
        seed=seed,
        config={"agent": agent, "env": env, "seed": str(seed), **settings},
        has_config=True,
    )


def names(groups: Groups) -> list[str]:
    return list(groups.settings)


def test_runs_that_differ_by_their_seed_and_by_what_changes_no_result_are_one_setting() -> None:
    one = run(seed=1, name="a", tracking__csv="true", eval__workers="0", env__workers="0", checkpoint__every="1")
    other = run(seed=2, name="b", tracking__csv="false", eval__workers="1", env__workers="2", checkpoint__every="2")
    groups = group([one, other])
    assert names(groups) == ["agent=ppo"]
    assert groups.differences == {}


def test_what_was_swept_tells_settings_apart_and_numbers_are_in_order() -> None:
    groups = group([run(agent=agent, batch_size=size) for agent in ("dqn", "a2c") for size in ("16", "8")])
    assert groups.keys == ("agent", "batch_size")
    assert names(groups) == [
        "agent=a2c batch_size=8",
        "agent=a2c batch_size=16",
        "agent=dqn batch_size=8",
        "agent=dqn batch_size=16",
    ]


def test_what_another_agent_brings_along_adds_nothing_to_its_name() -> None:
    groups = group([run("dqn", agent__learner__buffer="9"), run("ppo", agent__learner__clip="0.2")])
    assert groups.keys == ("agent",)
    assert groups.differences["agent.learner.clip"] == {"agent=dqn": ("–",), "agent=ppo": ("0.2",)}


def test_names_are_as_short_as_they_can_be_and_still_differ() -> None:
    keys = ["agent.learner.rate", "agent.critic.rate", "agent.learner.clip"]
    (setting,) = group(
        [run(agent__learner__rate="1", agent__critic__rate="2", agent__learner__clip="3")], keys
    ).settings
    assert setting == "learner.rate=1 critic.rate=2 clip=3"


def test_a_class_is_named_after_its_node() -> None:
    key = "env.wrappers.stack._target_"
    one, other = run(), run()
    groups = group([one, replace(other, config={**other.config, key: "a.Stack", "env.wrappers.stack.size": "2"})])
    assert groups.keys == (key,)
    assert names(groups) == ["stack=a.Stack", "without stack"]


def test_a_key_that_is_tuned_for_each_environment_splits_no_setting() -> None:
    runs = [run(agent, env, total_steps=steps) for agent in ("dqn", "ppo") for env, steps in (("a", "10"), ("b", "20"))]
    groups = group(runs)
    assert names(groups) == ["agent=dqn", "agent=ppo"]
    assert groups.environments == ("a", "b")
    assert groups.differences["total_steps"]["agent=dqn"] == ("10", "20")


def test_two_agents_are_two_settings_even_where_each_ran_in_an_environment_of_its_own() -> None:
    assert names(group([run("dqn", "a"), run("ppo", "b")])) == ["agent=dqn", "agent=ppo"]


def test_environments_of_one_option_are_told_apart_by_their_id() -> None:
    gym = group([run(env="gym", env_id="Taxi-v4"), run(env="gym", env_id="Blackjack-v1")])
    assert gym.environments == ("Blackjack-v1", "Taxi-v4")
    assert group([run(env_id="A-v1"), run(env_id="A-v2")]).environments == ("cartpole A-v1", "cartpole A-v2")
    assert group([run("masked", "masked_cartpole", env_id="CartPole-v1"), run(env_id="CartPole-v1")]).environments == (
        "cartpole",
        "masked_cartpole",
    )


def test_keys_can_be_chosen() -> None:
    runs = [run(agent, batch_size=size) for agent in ("dqn", "ppo") for size in ("8", "16")]
    assert names(group(runs, ["batch_size"])) == ["batch_size=8", "batch_size=16"]
    with pytest.raises(ConfigurationError, match=r"--by 'batchsize': no run has this key; did you mean 'batch_size'\?"):
        group(runs, ["batchsize"])


def test_a_run_without_configuration_splits_no_setting_of_the_others() -> None:
    bare = Run(Path("bare"), "completed", agent="ppo", env="cartpole", config={"agent": "ppo"}, env_id="cartpole-v1")
    groups = group([run(total_steps="5", batch_size="8"), bare])
    assert names(groups) == ["agent=ppo"]


def test_the_same_configuration_and_seed_is_a_repeat_and_another_seed_is_none() -> None:
    assert repeats([run(seed=1, x="1", name="a"), run(seed=1, x="1", name="b"), run(seed=2, x="1"), run(seed=1)]) == {
        1: 0
    }


def test_a_run_that_is_evaluated_more_often_repeats_one_that_learned_the_same() -> None:
    runs = [replace(run(seed=1, eval__every=every), config_hash=f"hash of {every}") for every in ("10", "20")]
    assert repeats(runs) == {1: 0}


def test_a_run_with_none_of_the_keys_is_called_so() -> None:
    assert names(group([run(batch_size="8"), run()], ["batch_size"])) == ["batch_size=8", "without batch_size"]


def test_no_runs_make_no_settings() -> None:
    assert group([]).settings == ()


def test_a_value_that_looks_like_another_key_makes_no_two_settings_one() -> None:
    runs = [run(a="1 b=2"), run(a="1", b="2")]
    assert names(group(runs, ["a", "b"])) == ["a=1 b=2", "a=1 b=2 (2)"]
