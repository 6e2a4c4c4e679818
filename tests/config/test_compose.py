"""How a configuration is put together from several folders, and how its keys are named in messages."""

from pathlib import Path

import pytest

from bbrl_exp.config.compose import Composer, resolve, written_key
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.errors import ConfigurationError


def test_the_root_file_may_be_in_the_users_own_folder(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "own.yaml").write_text("defaults: [random]\n")
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\nseed: 17\n")
    with Composer(default_config_dir(), "mine", tmp_path) as composer:
        assert resolve(composer.compose(["agent=own"]))["seed"] == 17


def test_a_root_file_that_is_in_no_folder_is_named(tmp_path: Path) -> None:
    with (
        Composer(default_config_dir(), "mine", tmp_path) as composer,
        pytest.raises(ConfigurationError, match="'mine'"),
    ):
        composer.compose([])


def test_a_key_is_named_where_the_user_writes_it() -> None:
    contents = {
        "graph": {"members": "${agent.members}"},
        "agent": {"members": {"policy": {"seed": "${seed}"}}},
        "seed": 1,
    }
    assert written_key(contents, "graph.members.policy.size") == "agent.members.policy.size"
    assert written_key(contents, "graph.members.policy.seed") == "seed"
    assert written_key({"seed": "${nope}"}, "seed") == "seed"
    assert written_key({"a": "${b}", "b": "${a}"}, "a") in ("a", "b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "hydra.sweeper.params.seed=1,2",
            "key 'hydra.sweeper.params.seed' = 1,2: is for YAML; on the command line write -m seed=1,2",
        ),
        (
            "+hydra.sweeper.params.agent.learner.discount=choice(0.9,0.99)",
            "key '+hydra.sweeper.params.agent.learner.discount' = choice(0.9,0.99): is for YAML; on the command line "
            "write -m agent.learner.discount=choice(0.9,0.99)",
        ),
        (
            "hydra.sweeper.params.seed='1,2'",
            "key 'hydra.sweeper.params.seed': is for YAML; on the command line write what varies, such as -m seed=1,2",
        ),
        (
            "hydra.sweeper.params={seed: '1,2'}",
            "key 'hydra.sweeper.params': is for YAML; on the command line write what varies, such as -m seed=1,2",
        ),
        ("hydra.launcher.n_jobs=1,2", "key 'hydra.launcher.n_jobs' = 1,2: must be one value, the same for all jobs"),
        ("seed=1,2", "key 'seed' = 1,2: several values need a sweep, written with -m"),
    ],
)
def test_several_values_are_refused_where_they_have_no_meaning(override: str, message: str) -> None:
    with Composer(default_config_dir()) as composer, pytest.raises(ConfigurationError) as caught:
        composer.compose([override])
    assert str(caught.value) == message


def test_an_option_that_extends_an_unknown_one_is_refused_with_those_there(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "mine.yaml").write_text("defaults: [ppoo, _self_]\n")
    with (
        Composer(default_config_dir(), extra_dir=tmp_path) as composer,
        pytest.raises(
            ConfigurationError, match=r"key 'agent' = 'ppoo': no such option; did you mean 'ppo'\? allowed: a2c"
        ),
    ):
        composer.compose(["agent=mine"])


def test_the_root_file_is_read_once_for_all_jobs_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    with Composer(default_config_dir()) as composer:
        composer.compose(["seed=1"])
        monkeypatch.setattr("bbrl_exp.config.compose.OmegaConf.load", None)
        assert composer.compose(["seed=2"]).seed == 2
