"""What can be chosen is told in one line each, without anything heavy being imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from bbrl_exp.commands.list import GROUPS, first_comment, main
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir

ROOT = Path(__file__).parents[2]
CONF = default_config_dir()


def test_every_group_of_the_configuration_is_listed():
    assert set(GROUPS) == {path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"}


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_option_begins_with_a_line_that_says_what_it_is(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0] == "# @package _global_" else lines[0]
    assert first.startswith("# ")
    assert first_comment(path) == first.removeprefix("# ")
    assert len(first) > len("# An option.")


def test_the_listing_of_a_group_has_a_line_an_option(capsys: pytest.CaptureFixture[str]):
    assert main(["tracking"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == "tracking: what is recorded"
    assert [line.split()[0] for line in lines] == ["default", "none", "trackio", "wandb"]
    assert lines[1] == "  none     Nothing is recorded but summary.json and run.log."


def test_the_whole_listing_has_every_group(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n{group}: " in f"\n{printed}" for group in GROUPS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["agnet"], "did you mean 'agent'?"),
        (["agent", "pppo"], "agent 'pppo': no such agent; did you mean 'ppo'?"),
        (["env", "cartpol"], "env 'cartpol': no such env; did you mean 'cartpole'?"),
        (["--config-dir", "nowhere"], "configuration folder nowhere is not there"),
        (["agent", "ppo", "x"], "unrecognized"),
    ],
)
def test_what_cannot_be_listed_is_one_line(arguments, said, capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_an_option_is_shown_with_its_file(capsys: pytest.CaptureFixture[str]):
    assert main(["experiment", "ppo_cartpole"]) == 0
    heading, text = capsys.readouterr().out.split("\n", 1)
    path = CONF / "experiment" / "ppo_cartpole.yaml"
    assert Path(heading.removeprefix("# ")).resolve() == path
    assert text == path.read_text(encoding="utf-8")


def test_your_own_options_are_listed_after_ours_which_are_used_where_names_are_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "cartpole.yaml").write_text("# A cart of mine.\nid: Mine-v0\n")
    (tmp_path / "env" / "mine.yaml").write_text("# @package _global_\na: 1\n")
    assert main(["env", "--config-dir", str(tmp_path)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    described = dict(line.split(maxsplit=1) for line in lines[1:-1])
    assert described["cartpole"] == first_comment(CONF / "env" / "cartpole.yaml")
    assert lines[-1] == "mine"
    with Composer(CONF, extra_dir=tmp_path) as composer:
        assert composer.compose(["env=cartpole"]).env.id == "CartPole-v1"
    assert main(["env", "mine", "--config-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("a: 1\n")


def test_listing_imports_neither_torch_nor_hydra():
    code = (
        "import runpy, sys\ntry: runpy.run_path('scripts/list.py', run_name='__main__')\nexcept SystemExit: pass\n"
        "assert not {'torch', 'hydra', 'gymnasium', 'tensorboard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
