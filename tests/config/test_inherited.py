"""Replacing a class drops what only the former one takes; typing errors are still found."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from bbrl_exp.config import inherited
from bbrl_exp.config.carried import CarriedJob
from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.past_run import PastRun
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config import write_config

PACKAGE = """
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.learners.learner import Learner
from bbrl_exp.policies.stochastic import StochasticPolicy


class Mine(StochasticPolicy):
    def __init__(self, env_spec, n_hidden=16, name=None):
        super().__init__(env_spec, hidden_sizes=[n_hidden], activation="relu", name=name)


class Open(StochasticPolicy):
    def __init__(self, env_spec, name=None, **more):
        super().__init__(env_spec, name=name, **more)


class Simulator(AutoResetGymAgent):
    def __init__(self, batch_size, seed=0, difficulty=1, name=None):
        super().__init__("CartPole-v1", batch_size, seed, name=name)


class Learns(Learner):
    def __init__(self, policy, critic, gamma=0.9):
        super().__init__()

    def update(self, workspace, progress):
        return {}
"""
POLICY = "agent.members.policy"
MINE = f"{POLICY}._target_=replacing.Mine"
STOCHASTIC = "bbrl_exp.policies.stochastic.StochasticPolicy"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "replacing.py").write_text(PACKAGE)
    (tmp_path / "agent").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "replacing")
    return tmp_path


@pytest.fixture
def composer(folder: Path) -> Iterator[Composer]:
    with Composer(default_config_dir(), extra_dir=folder) as found:
        yield found


def option(folder: Path, name: str, contents: str) -> str:
    (folder / "agent" / f"{name}.yaml").write_text(contents)
    return f"agent={name}"


def policy(run: CheckedRun) -> dict[str, Any]:
    found: dict[str, Any] = run.config["agent"]["members"]["policy"]
    return found


def test_an_option_that_replaces_a_class_states_only_what_the_new_one_takes(folder: Path, composer: Composer) -> None:
    mine = option(
        folder, "mine", "defaults: [ppo, _self_]\nmembers: {policy: {_target_: replacing.Mine, n_hidden: 32}}"
    )
    run = check(composer.compose([mine]))
    assert policy(run) == {"_target_": "replacing.Mine", "n_hidden": 32}
    assert run.written["agent"]["members"]["policy"] == policy(run)
    assert run.note == "not taken by the class of agent.members.policy, and left out: hidden_sizes, activation, seed"


def test_it_is_the_same_run_as_one_whose_keys_are_removed_one_by_one(composer: Composer) -> None:
    removed = [f"~{POLICY}.{name}" for name in ("hidden_sizes", "activation", "seed")]
    assert (
        check(composer.compose(["agent=ppo", MINE])).config_hash
        == check(composer.compose(["agent=ppo", MINE, *removed])).config_hash
    )


@pytest.mark.parametrize(
    ("contents", "overrides", "refused"),
    [
        ("{_target_: replacing.Mine, n_hiden: 3}", [], "Mine has no parameter 'n_hiden'; did you mean 'n_hidden'?"),
        ("{_target_: replacing.Mine, activation: tanh}", [], "Mine has no parameter 'activation'"),
        ("{_target_: replacing.Mine}", [f"{POLICY}.seed=3"], "Mine has no parameter 'seed'"),
        ("{}", [f"{POLICY}.seed=3", MINE], "Mine has no parameter 'seed'"),
        ("{}", [MINE, f"+{POLICY}.n_hiden=3"], "Mine has no parameter 'n_hiden'"),
        ("{}", [f"{POLICY}={{_target_: replacing.Mine, seed: 3}}"], "Mine has no parameter 'seed'"),
        ("{hiden_sizes: [3]}", [], "StochasticPolicy has no parameter 'hiden_sizes'"),
        (f"{{_target_: {STOCHASTIC}, n_hidden: 3}}", [], "StochasticPolicy has no parameter 'n_hidden'"),
    ],
)
def test_what_is_stated_with_the_new_class_or_after_it_is_checked(
    folder: Path, composer: Composer, contents: str, overrides: list[str], refused: str
) -> None:
    mine = option(folder, "mine", f"defaults: [ppo, _self_]\nmembers: {{policy: {contents}}}\n")
    with pytest.raises(ConfigurationError, match=refused):
        check(composer.compose([mine, *overrides]))


def test_a_file_above_the_new_class_is_checked_and_one_below_it_is_not(folder: Path, composer: Composer) -> None:
    option(folder, "base", "defaults: [ppo, _self_]\nmembers: {policy: {initial_log_std: 1.0}}\n")
    option(folder, "middle", "defaults: [base, _self_]\nmembers: {policy: {_target_: replacing.Mine}}\n")
    run = check(
        composer.compose([option(folder, "top", "defaults: [middle, _self_]\nmembers: {policy: {n_hidden: 4}}\n")])
    )
    assert policy(run) == {"_target_": "replacing.Mine", "n_hidden": 4}
    bad = option(folder, "bad", "defaults: [middle, _self_]\nmembers: {policy: {initial_log_std: 2.0}}\n")
    with pytest.raises(ConfigurationError, match="Mine has no parameter 'initial_log_std'"):
        check(composer.compose([bad]))


def test_learners_critics_wrappers_and_environment_agents_are_replaced_in_the_same_way(composer: Composer) -> None:
    run = check(
        composer.compose(
            [
                "agent=recurrent_ppo",
                "env=masked_cartpole",
                "agent.learner._target_=replacing.Learns",
                "agent.learner.critic._target_=bbrl_exp.policies.values.ValueCritic",
                "agent.members.rewards.discount=0.9",
                "env.agent._target_=replacing.Simulator",
                "+env.agent.difficulty=2",
            ]
        )
    )
    assert run.config["agent"]["learner"] == {
        "_target_": "replacing.Learns",
        "critic": {"_target_": "bbrl_exp.policies.values.ValueCritic", "seed": 0},
    }
    simulator = {"_target_": "replacing.Simulator", "batch_size": 8, "seed": 0, "difficulty": 2}
    assert run.config["env"]["agent"] == run.config["graph"]["agent"]["members"]["env"] == simulator
    wrapper = "env.wrappers.mask._target_=gymnasium.wrappers.FlattenObservation"
    run = check(composer.compose(["env=masked_cartpole", wrapper]))
    assert run.config["env"]["wrappers"] == {"mask": {"_target_": "gymnasium.wrappers.FlattenObservation"}}
    with pytest.raises(
        ConfigurationError, match=r"^key 'env\.wrappers' has no effect: nothing refers to it, such as env\.agent$"
    ):
        check(composer.compose(["env=masked_cartpole", wrapper, "env.agent._target_=replacing.Simulator"]))


def test_a_class_that_cannot_be_found_and_is_not_used_keeps_no_other_from_being_replaced(
    folder: Path, composer: Composer
) -> None:
    (folder / "env").mkdir()
    unused = "backends: {other: {_target_: bbrl_exp.envs.absent.Agent}}"
    (folder / "env" / "two_backends.yaml").write_text(f"defaults: [cartpole, _self_]\n{unused}")
    run = check(composer.compose(["agent=ppo", "env=two_backends", MINE]))
    assert "hidden_sizes" not in policy(run)


def test_a_class_that_takes_any_argument_is_given_what_is_inherited(composer: Composer) -> None:
    run = check(composer.compose(["agent=ppo", f"{POLICY}._target_=replacing.Open"]))
    assert policy(run) == {"_target_": "replacing.Open", "hidden_sizes": [64, 64], "activation": "tanh", "seed": 0}


def test_what_refers_to_an_argument_that_is_left_out_needs_another_value(composer: Composer) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(composer.compose(["agent=recurrent_ppo", "agent.learner._target_=replacing.Learns"]))
    assert str(caught.value).startswith(
        "key 'agent.members.rewards.discount': Interpolation key 'agent.learner.discount' not found; "
        "not taken by the class of agent.learner, and left out: learning_rate,"
    )


def test_a_sweep_over_classes_gives_each_its_own_arguments(composer: Composer) -> None:
    runs = [
        check(composer.compose(["agent=ppo", f"{POLICY}._target_={target}", "seed=1"], is_job=True))
        for target in ("replacing.Mine", STOCHASTIC)
    ]
    assert [list(policy(run)) for run in runs] == [["_target_"], ["_target_", "hidden_sizes", "activation", "seed"]]
    assert runs[1].config_hash == check(composer.compose(["agent=ppo", "seed=1"])).config_hash


def test_an_edited_file_counts_in_the_same_process(folder: Path, composer: Composer) -> None:
    text = "defaults: [ppo, _self_]\nmembers: {policy: {_target_: replacing.Mine}}\n"
    mine = option(folder, "mine", text)
    assert policy(check(composer.compose([mine]))) == {"_target_": "replacing.Mine"}
    option(folder, "mine", text.replace("Mine}", "Mine, seed: 3}"))
    with Composer(default_config_dir(), extra_dir=folder) as again, pytest.raises(ConfigurationError, match="'seed'"):
        check(again.compose([mine]))


def test_the_files_are_not_read_again_where_every_argument_is_taken(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inherited, "_files", None)
    assert check(composer.compose(["agent=ppo"])).note is None


def test_a_saved_run_has_what_its_class_takes_and_runs_again_with_another(
    folder: Path, composer: Composer, tmp_path: Path
) -> None:
    run = check(composer.compose(["agent=ppo", MINE, f"+{POLICY}.n_hidden=4"]))
    place, options = tmp_path / "run", tmp_path / "options"
    place.mkdir()
    write_config(place, run.written, run.hydra, run.overrides)
    (place / "summary.json").write_text("{}")
    past = PastRun.read(place)
    assert past.config["agent"]["members"]["policy"] == {"_target_": "replacing.Mine", "n_hidden": 4}
    options.mkdir()
    past.write_options(options, default_config_dir())
    with Composer(options, extra_dir=default_config_dir()) as again:
        assert check(again.compose(past.overrides_with([]))).config_hash == run.config_hash
        other = again.compose([f"{POLICY}._target_={STOCHASTIC}"])
        assert policy(check(other)) == {"_target_": STOCHASTIC}


def test_a_job_that_a_launcher_composed_is_checked_in_the_same_way(composer: Composer) -> None:
    config = composer.compose(["agent=ppo", MINE])
    OmegaConf.update(config, "hydra.runtime.output_dir", "folder", force_add=True)
    HydraConfig.instance().set_config(config)
    job = CarriedJob.of(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    assert job.check().config_hash == check(config).config_hash
    assert policy(job.check()) == {"_target_": "replacing.Mine"}
