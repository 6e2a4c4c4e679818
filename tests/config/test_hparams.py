"""What of a configuration stands on TensorBoard's HPARAMS page."""

from pathlib import Path

import pytest

from bbrl_exp.config.compose import Composer, resolve
from bbrl_exp.config.identity import hparams_of, hparams_of_overrides

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def composer():
    with Composer(CONF) as composer:
        yield composer


def entry(composer, *overrides):
    config = composer.compose(overrides)
    return hparams_of(config, resolve(config))


def test_agent_environment_and_batch_size_are_always_there(composer):
    assert entry(composer).parameters == {"agent": "random", "env": "cartpole", "batch_size": 8}


def test_overrides_are_there_as_what_they_became(composer):
    asked = entry(
        composer,
        "experiment=ppo_cartpole",
        "agent.learner.learning_rate=1e-3",
        "agent.members.policy.hidden_sizes=[8,8]",
        "+env.kwargs.sutton_barto_reward=true",
        "eval.every=null",
        "debug=true",
    ).parameters
    assert asked == {
        "agent": "ppo",
        "env": "cartpole",
        "batch_size": 8,
        "experiment": "ppo_cartpole",
        "agent.learner.learning_rate": 0.001,
        "agent.members.policy.hidden_sizes": "[8, 8]",
        "env.kwargs.sutton_barto_reward": True,
        "eval.every": "null",
        "debug": True,
    }


@pytest.mark.parametrize(
    "override",
    [
        "seed=3",
        "name=mine",
        "tracking=none",
        "tracking.csv=false",
        "checkpoint.every=5",
        "resume=never",
        "launcher=joblib",
        "eval.workers=1",
        "hydra.run.dir=outputs/elsewhere",
    ],
)
def test_what_changes_no_number_and_the_seed_make_no_column_and_no_other_setting(composer, override):
    assert entry(composer, override) == entry(composer)


@pytest.mark.parametrize("override", ["agent=mlp", "env=pendulum", "batch_size=9", "total_steps=7", "eval.seed=1"])
def test_everything_else_makes_another_setting(composer, override):
    assert entry(composer, override).setting != entry(composer).setting


def test_the_length_of_a_run_is_no_column_since_it_can_be_made_longer(composer):
    assert entry(composer, "total_steps=7").parameters == entry(composer).parameters
    assert hparams_of_overrides(["agent=randm", "total_steps=7"]).parameters == {"agent": "randm"}


def test_two_seeds_of_one_setting_have_the_same_name_also_where_other_keys_follow_the_seed(composer):
    follows = ["eval.seed=${seed}", "seed=1"], ["eval.seed=${seed}", "seed=2"]
    assert entry(composer, *follows[0]).setting == entry(composer, *follows[1]).setting
    assert entry(composer).setting.startswith("random-cartpole-")


def test_a_member_that_is_taken_out_is_a_column(composer):
    assert (
        entry(composer, "agent=mlp", "~agent.members.policy.hidden_sizes").parameters[
            "agent.members.policy.hidden_sizes"
        ]
        == "null"
    )


def test_a_run_that_cannot_be_composed_is_known_by_its_overrides():
    one, two = (
        hparams_of_overrides(["agent=randm", "rate=1e-3", "seed=0"]),
        hparams_of_overrides(["agent=randm", "rate=1e-3"]),
    )
    assert one == two
    assert one.parameters == {"agent": "randm", "rate": 0.001}
    assert hparams_of_overrides(["a=[", "seed=1"]) == hparams_of_overrides(["a=[", "seed=2"])
    assert hparams_of_overrides(["a=["]).parameters == {"a": "["}


@pytest.mark.parametrize(
    "override",
    ["tracking=none", "tracking.enabled=false", "tracking.tensorboard=false", "tracking.sinks.tensorboard=null"],
)
def test_a_run_that_cannot_start_and_asks_for_no_file_has_no_entry(override):
    assert hparams_of_overrides(["agent=randm", override]) is None
