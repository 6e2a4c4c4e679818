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
