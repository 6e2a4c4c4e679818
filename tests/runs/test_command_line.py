"""``--help`` and completion by TAB."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bbrl_exp.commands.help import help_text
from bbrl_exp.commands.main import VERBS
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir

from .conftest import CommandLine

SCRIPT = Path(__file__).parents[2] / "scripts" / "run.py"


@pytest.fixture
def help_page(command_line: CommandLine) -> str:
    ended = command_line("--help")
    assert (ended.code, ended.err) == (0, "")
    return ended.out


def test_help_begins_with_commands_and_fits_two_screens_before_the_keys(help_page: str):
    before, keys = help_page.split("\nKeys [", 1)
    lines = before.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 120
    assert before.index("A run") < before.index("A sweep") < before.index("Groups")
    assert "resumes where it was stopped" in before
    assert "bbrl-exp list" in before
    assert (
        "\n  batch_size                       number of parallel environments [an integer of at least 1; 8]\n" in keys
    )


def test_every_command_that_help_names_is_there(help_page: str):
    verbs = set(re.findall(r"bbrl-exp (\w+)", help_page))
    assert {"run", "rerun", "list", "evaluate", "report"} <= verbs <= set(VERBS)


def test_the_examples_of_help_are_commands_of_the_program_that_was_called(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, help_page: str
):
    def examples(called: str) -> list[str]:
        monkeypatch.setattr("sys.argv", [called, "run", "--help"])
        return command_line("--help").out.split("\nGroups", 1)[0].splitlines()

    installed, scripts, module = map(examples, ("/bin/bbrl-exp", "scripts/run.py", "src/bbrl_exp/__main__.py"))
    assert installed == help_page.split("\nGroups", 1)[0].splitlines()
    called = "an agent in an environment"
    assert scripts[3] == f"  {'python scripts/run.py agent=random env=cartpole':<61} {called}"
    assert installed[3] == f"  {'bbrl-exp run agent=random env=cartpole':<61} {called}"
    assert module[3] == f"  {'python -m bbrl_exp run agent=random env=cartpole':<61} {called}"
    completion = [[line for line in lines if "-sc install" in line] for lines in (installed, scripts, module)]
    assert [len(lines) for lines in completion] == [1, 1, 0]  # no shell completes what follows -m
    assert completion[0][0].startswith('  eval "$(bbrl-exp run -sc install=bash)"  ')


def test_every_command_of_help_composes(help_page: str):
    lines = [line.strip() for line in help_page.splitlines() if line.startswith("  bbrl-exp run")]
    commands = [shlex.split(line.partition("   ")[0])[2:] for line in lines]
    assert len(commands) >= 9
    with Composer(default_config_dir()) as composer:
        for command in commands:
            words = [word for word in command if word.partition("=")[2].find("<") < 0]
            overrides = [word for word in words if "=" in word]
            composer.compose([word for word in overrides if not {",", "("} & set(word)])


def test_help_names_every_group_and_its_options():
    text = help_text({"agent": ["a", "b"], "mine": ["c"]}, {"seed": 7})
    assert "\n  agent       a, b\n" in text
    assert "\n  mine        c\n" in text
    assert "[an integer of 0 or more; 7]" in text


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("agent=recurrent_p", {"agent=recurrent_ppo", "agent=recurrent_pqn"}),
        ("agent=ppo env=pend", {"env=pendulum"}),
        ("checkpoint.", {"checkpoint.every=", "checkpoint.keep="}),
    ],
)
def test_tab_completes_options_and_keys(command_line: CommandLine, monkeypatch, typed: str, completed: set[str]):
    line = f"python scripts/run.py {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    ended = command_line("-sc", "query=bash")
    assert ended.code == 0
    assert set(ended.out.split()) == completed


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.skipif(
    not Path(sys.executable).with_name("python").exists(), reason="this interpreter is not called python"
)
def test_bash_completes_after_the_line_that_the_page_says():
    line = "python scripts/run.py experiment=ppo_cart"
    program = f"""
    eval "$(python scripts/run.py -sc install=bash)"
    COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD=2
    hydra_bash_completion
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    ended = subprocess.run(
        ["bash", "-c", program], cwd=SCRIPT.parents[1], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stdout.split() == ["experiment=ppo_cartpole"], ended.stderr


def test_options_may_stand_among_the_overrides(command_line: CommandLine):
    ended = command_line("total_steps=64", "-m", "seed=0,1", "agent.steps_per_chunk=8", "name=mine")
    assert (ended.code, ended.err) == (0, "")
    assert len(list(Path("outputs/multirun/mine").glob("*/summary.json"))) == 2


def test_an_override_with_dashes_is_refused_in_one_line(command_line: CommandLine):
    ended = command_line("env=cartpole", "--agent", "ppo")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: option '--agent' is not known: what a run takes has no dashes, such as agent=ppo (see --help)\n"
    )


@pytest.mark.parametrize(
    ("agent", "elsewhere", "here"),
    [
        ("ppo", "gamma", "discount"),
        ("ppo", "gae_lambda", "trace_decay"),
        ("ppo", "lr", "learning_rate"),
        ("sac", "lr", "policy_learning_rate"),
        ("sac", "tau", "target_rate"),
        ("ppo", "n_epoch", "n_epochs"),
    ],
)
def test_the_names_of_other_libraries_are_known(command_line: CommandLine, agent: str, elsewhere: str, here: str):
    ended = command_line(f"agent={agent}", f"agent.learner.{elsewhere}=1")
    assert ended.code == 2
    assert f"key 'agent.learner.{elsewhere}' is not known; did you mean '{here}'?" in ended.err
