"""What is checked before a search makes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from bbrl_exp.config.compose import Composer, asks_for_sweep
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.search_settings import SearchSettings
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.search.plan import plan_of

from .conftest import MakePlan

SEED = "agent.members.policy.seed=1,2"
PRUNED = "hydra.sweeper.pruner=median"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("sampler", "cmaes", "one of tpe, random, grid"),
        ("pruner", "hyperband", "one of none, median, percentile, halving"),
        ("aggregate", "max", "one of iqm, mean, median, min"),
        ("objective", "episodes", "one of eval_return_mean, "),
        ("direction", "up", "one of maximize, minimize"),
        ("n_trials", 0, "null or an integer of at least 1"),
        ("seeds", 3, "a list of different integers of 0 or more"),
        ("seeds", [1, 1], "a list of different integers of 0 or more"),
        ("seeds", [], "a list of different integers of 0 or more"),
        ("parallel_trials", None, "an integer of at least 1"),
        ("sampler_seed", -1, "an integer of 0 or more"),
        ("storage", "study.db", "null or the URL of a database"),
        ("params", 3, "a mapping of keys to texts"),
        ("rungs", [100], "left out with hydra.sweeper.pruner=none; it is for median, percentile, halving"),
        ("keep_percent", 10, "left out with hydra.sweeper.pruner=none; it is for percentile, halving"),
        ("startup_trials", 1, "left out with hydra.sweeper.pruner=none; it is for median, percentile"),
    ],
)
def test_a_value_that_is_not_allowed_or_without_effect_is_refused(key: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^key 'hydra.sweeper.{key}' = .*: must be {allowed}"):
        SearchSettings(**{key: value}).check()


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("hydra.sweeper.storage='nodb:///x'", "URL of a database that can be opened"),
        ("hydra.sweeper.n_trialz=3", r"'hydra.sweeper.n_trialz' is not known; did you mean 'n_trials'"),
        ("agent.members.policy.nothing=0.1,0.2", r"key 'agent.members.policy.nothing' is not known"),
        ("agent.members.policy.hidden_sizes=[8],[-8]", "hidden_sizes"),
        ("eval.final_episodes=0", "must be return_mean, which is measured without eval.final_episodes"),
    ],
)
def test_a_senseless_search_is_refused(override: str, reason: str, make_plan: MakePlan) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        make_plan(SEED, override)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["eval.every=0"], r"key 'eval.every' = 0: must be 1 or more to compare trials"),
        (
            ["hydra.sweeper.rungs=[50,500]"],
            r"with an evaluation up to the first and between any two; eval.every is 100",
        ),
        (["hydra.sweeper.rungs=[200,250]"], "with an evaluation up to the first and between any two"),
        (["hydra.sweeper.rungs=[500,1000]"], "must be below total_steps, which is 1,000"),
        (["hydra.sweeper.rungs=[200]", "total_steps=1000,2000"], "key 'total_steps' cannot be searched with"),
        (["checkpoint.every=0"], r"key 'checkpoint.every' = 0: must be more to prune"),
        (["tracking=none"], "must be on to prune by what metrics.csv holds"),
    ],
)
def test_rungs_at_which_nothing_can_be_compared_are_refused(
    overrides: list[str], reason: str, make_plan: MakePlan
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        make_plan(SEED, PRUNED, *overrides)


def test_rungs_are_a_quarter_and_half_of_the_steps_unless_they_are_given(make_plan: MakePlan) -> None:
    assert make_plan(SEED, PRUNED).rungs == (250, 500)
    assert make_plan(SEED, PRUNED, "hydra.sweeper.rungs=[300]").rungs == (300,)
    assert make_plan(SEED).rungs == ()


def test_trials_are_compared_by_the_evaluation_that_is_due_at_a_rung_or_before(make_plan: MakePlan) -> None:
    plan = make_plan(SEED, PRUNED)
    assert [plan.due(rung) for rung in plan.rungs] == [200, 500]


def test_a_grid_has_as_many_trials_as_points_and_no_more(make_plan: MakePlan) -> None:
    assert make_plan(SEED, "hydra.sweeper.sampler=grid").n_trials == 2
    assert make_plan(SEED).n_trials == 50
    with pytest.raises(ConfigurationError, match="must be at most 2, the size of the grid"):
        make_plan(SEED, "hydra.sweeper.sampler=grid", "hydra.sweeper.n_trials=3")


CONTINUOUS = ("ddpg", "sac", "td3", "tqc")


@pytest.mark.parametrize("name", sorted(path.stem for path in (default_config_dir() / "search").glob("*.yaml")))
def test_every_space_that_is_shipped_has_runs_at_its_first_and_at_its_last_values(
    name: str, composer: Composer
) -> None:
    overrides = [f"search={name}", f"env={'pendulum' if name in CONTINUOUS else 'cartpole'}"]
    assert asks_for_sweep(composer.compose(overrides))
    plan = plan_of(composer, SweepConfig.of(composer, overrides))
    assert len(plan.space) >= 5
    config = plan.compose(plan.constant)
    assert config.hydra.runtime.choices.agent == name
    assert config.eval.seed == 1  # nothing is tuned on the episodes that results are reported on


def test_an_experiment_gives_its_budget_and_the_space_its_agent(composer: Composer) -> None:
    overrides = ["search=ppo", "experiment=ppo_cartpole"]
    plan = plan_of(composer, SweepConfig.of(composer, overrides))
    config = plan.compose([*plan.constant, plan.space[0].ends[0]])
    assert (config.total_steps, config.agent.learner.learning_rate) == (100_000, 1e-4)


def test_nothing_is_made_by_a_plan(tmp_path: Path, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_plan(SEED, "hydra.sweeper.storage='sqlite:///study.db'")
    assert list(tmp_path.iterdir()) == []


def test_a_search_by_successes_that_nobody_records_is_refused(make_plan: MakePlan) -> None:
    with pytest.raises(ConfigurationError) as found:
        make_plan("agent.members.policy.seed=int(interval(0, 9))", "hydra.sweeper.objective=eval_success_rate")
    assert str(found.value) == (
        "key 'hydra.sweeper.objective' = 'eval_success_rate': must be about returns; for success rates record the key "
        "of info: env.info_keys=[is_success]"
    )
