"""The program ``bbrl-exp`` hands over to its verbs, and starts fast."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import bbrl_exp
from bbrl_exp import commands
from bbrl_exp.commands.main import VERBS, main


def test_every_module_of_a_command_is_a_verb() -> None:
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    modules = {name: importlib.import_module(f"bbrl_exp.commands.{name}") for name in names if name != "main"}
    assert set(VERBS) == {name.replace("_", "-") for name, module in modules.items() if hasattr(module, "main")}


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_every_verb_with_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: bbrl-exp <command> …"
    assert [line.split(maxsplit=1) for line in lines[2 : 2 + len(VERBS)]] == [[*each] for each in VERBS.items()]


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["run", "--version"]) == 0
    assert capsys.readouterr().out == f"bbrl_exp {bbrl_exp.__version__}\n" * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evalute", "x"], "error: command 'evalute' is not known; did you mean 'evaluate'? allowed: {}\n"),
        (["agent=ppo"], "error: command 'agent=ppo' is not known; allowed: {}\n"),
        (["help"], "error: command 'help' is not known; allowed: {}\n"),
        (["--verbose"], "error: command '--verbose' is not known; allowed: {}\n"),
    ],
)
def test_an_unknown_verb_is_refused_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", said.format(", ".join(VERBS)))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_by_the_name_that_it_was_called_by(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/bbrl-exp", verb, "--help"])
    if verb == "run":
        assert main([verb, "--help"]) == 0
    else:
        with pytest.raises(SystemExit, match=r"^0$"):
            main([verb, "--help"])
    assert f"bbrl-exp {verb} " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list", "env"], ["runn"]])
def test_what_only_prints_imports_neither_torch_nor_hydra(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import runpy, sys\ntry: runpy.run_module('bbrl_exp', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'hydra', 'gymnasium', 'tensorboard', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("bbrl-exp ", set(VERBS)),
        ("bbrl-exp re", {"record", "report", "rerun"}),
        ("bbrl-exp run experiment=ppo_cart", {"experiment=ppo_cartpole"}),
        ("/opt/run/bin/bbrl-exp run agent=ppo checkpoint.", {"checkpoint.every=", "checkpoint.keep="}),
        ("bbrl-exp report outputs", set()),
    ],
)
def test_tab_completes_verbs_and_what_follows_run(
    line: str, completed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert set(printed_by_shell_completion("/opt/run/bin/bbrl-exp", "query=bash").split()) == completed


def test_the_line_that_help_names_installs_the_completion_of_the_program() -> None:
    printed = printed_by_shell_completion("/opt/bin/bbrl-exp", "install=bash")
    assert printed.splitlines()[-1].endswith("-F hydra_bash_completion bbrl-exp")


def printed_by_shell_completion(program: str, asked: str) -> str:
    """What a process of its own prints, as a shell starts it: Hydra's completion depends on what ran before."""
    code = f"import sys; sys.argv = ['{program}', '-sc', '{asked}']; from bbrl_exp.commands.main import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ended.stdout
