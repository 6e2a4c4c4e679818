"""A command is recorded, and printed, as it was typed."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bbrl_exp.records.invocation import Invocation, shell_command
from bbrl_exp.records.provenance import command

PYTHON = Path(sys.executable)


def called_as(monkeypatch: pytest.MonkeyPatch, *words: str) -> Invocation:
    monkeypatch.setattr("sys.argv", list(words))
    return Invocation.of_this_process()


@pytest.mark.parametrize(
    ("argv", "recorded", "verb", "another"),
    [
        (["/x/bin/bbrl-exp", "run", "a=1"], "bbrl-exp run a=1", "run", "bbrl-exp list"),
        (["/x/bbrl_exp/__main__.py", "rerun", "f"], "python -m bbrl_exp rerun f", "rerun", "python -m bbrl_exp list"),
        (["scripts/run.py", "a=1 2"], "python scripts/run.py 'a=1 2'", "run", "python scripts/list.py"),
        (["mine.py", "a=1"], "python mine.py a=1", None, "bbrl-exp list"),
        ([""], "python ''", None, "bbrl-exp list"),
    ],
)
def test_a_command_line_has_a_program_a_verb_and_arguments(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], recorded: str, verb: str | None, another: str
) -> None:
    invocation = called_as(monkeypatch, *argv)
    assert (shlex.join(invocation.words), invocation.verb) == (recorded, verb)
    assert shlex.join(invocation.calling("list")) == another
    assert command() == recorded


def test_a_verb_that_has_no_script_is_one_of_the_installed_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert called_as(monkeypatch, "scripts/run.py").calling("mirror") == ["bbrl-exp", "mirror"]


def test_a_printed_command_has_the_variables_that_it_needs_quoted_for_the_shell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BBRL_EXP_ALLOW", "mine,other")
    monkeypatch.setenv("PYTHONPATH", "it's here:.")
    path = f"{PYTHON.parent}:/bin"
    monkeypatch.setenv("PATH", path)
    code = "import os, sys; print(os.environ['BBRL_EXP_ALLOW'], os.environ['PYTHONPATH'], sys.argv[1:])"
    text = shell_command(["python", "-c", code, "a b", "$HOME"])
    done = subprocess.run(["sh", "-c", text], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True)
    assert done.stdout == "mine,other it's here:. ['a b', '$HOME']\n"


def test_the_interpreter_is_named_by_its_path_where_the_shell_finds_another_or_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BBRL_EXP_ALLOW", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PATH", str(PYTHON.parent))
    assert shell_command(["python", "x.py"]) == "python x.py"
    for name in ("python", "python3"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{PYTHON.parent}")
    assert shell_command(["python", "x.py"]) == f"{shlex.quote(sys.executable)} x.py"
    monkeypatch.setenv("PATH", "")
    assert shell_command(["python", "x.py"]) == f"{shlex.quote(sys.executable)} x.py"


def test_the_installed_program_is_named_as_it_was_called_unless_the_shell_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BBRL_EXP_ALLOW", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    program = tmp_path / "bbrl-exp"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(PYTHON.parent))
    called_as(monkeypatch, str(program), "run")
    assert shell_command(["bbrl-exp", "run"]) == f"{program} run"
    monkeypatch.setenv("PATH", f"{tmp_path}:{PYTHON.parent}")
    assert shell_command(["bbrl-exp", "run"]) == "bbrl-exp run"
    program.unlink()
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert shell_command(["bbrl-exp", "run"]) == f"{tmp_path / 'python'} -m bbrl_exp run"
