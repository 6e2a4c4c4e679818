"""A project of a user's own needs no environment variables, in whatever processes its code runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import prepared
import pytest

from bbrl_exp.config.project import VARIABLE

SHORT = ["total_steps=192", "agent.steps_per_chunk=8", "tracking=none"]
PROJECT = '[tool.bbrl_exp]\nallow = ["own"]\npath = ["src"]\nconfig_dir = "options"\n'
PACKAGE = """
import os

import gymnasium
import torch
from bbrl_exp import Agent


class Own(Agent):
    # Writes the process in which it runs.

    def forward(self, t, **kwargs):
        self.set(("process", t), torch.full((self.workspace.batch_size(),), os.getpid()))


class Marked(gymnasium.Wrapper):
    pass
"""
OPTION = """# The agent of this project.
defaults: [mlp, _self_]
members:
  own: {_target_: own.Own, after: env}
"""
ENVIRONMENT = """# The environment of this project.
defaults: [cartpole, _self_]
wrappers:
  marked: {_target_: own.Marked}
"""
# Names of Python's and of others' modules, which nobody should import from the current folder.
IN_THE_WAY = ("random", "socket", "json", "torch", "yaml", "hydra", "run")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a project and modules that are in the way."""
    for name in ("BBRL_EXP_ALLOW", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    for name in ("src", "options/agent", "options/env"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "src" / "own.py").write_text(PACKAGE)
    (tmp_path / "options" / "agent" / "own.yaml").write_text(OPTION)
    (tmp_path / "options" / "env" / "own.yaml").write_text(ENVIRONMENT)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    for name in IN_THE_WAY:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str, code: int = 0, cwd: Path | None = None, **environment: str) -> prepared.Process:
    ended = prepared.run([*prepared.MODULE, *words], cwd or Path.cwd(), {**os.environ, **environment})
    assert ended.wait() == code, f"{ended.stdout}\n{ended.stderr}"
    return ended


def call_interpreter(*words: str) -> str:
    """What a command prints that has imported nothing before."""
    command = [sys.executable, *prepared.MODULE, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def session_of(folder: Path) -> dict[str, Any]:
    (session,) = json.loads((folder / "provenance.json").read_text())["sessions"]
    return dict(session)


def test_a_run_has_its_project_in_every_process_and_says_so(project: Path) -> None:
    remote = "{_target_: bbrl_exp.agents.remote.RemoteAgent, agent: {_target_: own.Own, name: far}, after: env}"
    typed = ["agent=own", "env=own", "env.workers=1", "eval.workers=1", "eval.every=64", "eval.episodes=1"]
    out = call_interpreter("run", *typed, f"+agent.members.remote={remote}", "hydra.job.chdir=true", "name=a", *SHORT)
    assert "\n  project            pyproject.toml: allow own; path src; config_dir options\n" in out
    folder = project / "outputs" / "a"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["agent"], summary["env"]) == ("completed", "own", "own")
    assert [each["env_steps"] for each in summary["evaluations"]] == [64, 128, 192]
    assert session_of(folder)["project"] == {
        "file": str(project / "pyproject.toml"),
        "allow": ["own"],
        "path": [str(project / "src")],
        "config_dir": str(project / "options"),
    }


@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_the_jobs_of_a_sweep_have_the_project_of_its_folder(project: Path, launcher: str) -> None:
    typed = ["agent=own", "env=own", "seed=0,1", f"launcher={launcher}", "hydra.job.chdir=true", "name=s", *SHORT]
    assert "\nproject: pyproject.toml: allow own;" in call("run", "-m", *typed, "dry_run=true").stdout
    assert "\nproject: pyproject.toml: allow own;" in call("run", "-m", *typed).stdout
    for seed in (0, 1):
        folder = project / "outputs" / "multirun" / "s" / f"seed={seed}"
        assert json.loads((folder / "summary.json").read_text())["status"] == "completed"
        assert session_of(folder)["project"]["file"] == str(project / "pyproject.toml")


def test_other_commands_read_the_project_too_and_nobody_reads_it_elsewhere(project: Path) -> None:
    call_interpreter("run", "agent=own", "name=a", *SHORT)
    assert "  own  " in call("list", "agent").stdout
    assert "what differs: env cartpole → own\n" in call("rerun", "outputs/a", "env=own", "name=b").stdout
    assert call("evaluate", "outputs/b", "--episodes", "1").stdout.startswith("return ")
    assert call("record", "outputs/b", "--steps", "8", "--out", "b.pt").stdout.startswith("recorded b.pt")
    assert "2 of 2 runs" in call("report", "outputs/a", "outputs/b", "--out", "r").stdout
    # Neither from a folder above, nor from the folder of a run that somebody has put a project into.
    run_folder = project / "outputs" / "a"
    for folder in (project / "outputs", run_folder):
        ended = call("evaluate", str(run_folder), code=2, cwd=folder)
        assert "key 'agent.members.own._target_' = 'own.Own': not allowed" in ended.stderr
        assert ended.stderr.count("\n") == 1
    (run_folder / "pyproject.toml").write_text('[tool.bbrl_exp]\nallow = ["trap"]\npath = ["."]\n')
    (run_folder / "trap.py").write_text("import pathlib\npathlib.Path('sprung').touch()\n")
    ended = call("evaluate", ".", code=2, cwd=run_folder)
    note, error = ended.stderr.splitlines()
    assert note == "note: [tool.bbrl_exp] in pyproject.toml is not read in the folder of a run (it holds summary.json)"
    assert "not allowed" in error
    assert not (run_folder / "sprung").exists()
    # What is typed adds to it: the variables are those of a folder without a project.
    allowed = {"BBRL_EXP_ALLOW": "own", "PYTHONPATH": f"{project / 'src'}:{os.environ['PYTHONPATH']}"}
    assert call("evaluate", str(run_folder), "--episodes", "1", cwd=run_folder, **allowed).stdout.startswith("return ")


def test_every_command_refuses_a_project_that_cannot_be_used_in_one_line(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.bbrl_exp]\nalow = ['own']\n")
    for words in (["run"], ["run", "-m", "seed=0,1"], ["list"], ["evaluate", "x"], ["report", "x"], ["rerun", "x"]):
        ended = call(*words, code=2)
        assert (ended.stdout, ended.stderr) == (
            "",
            "error: pyproject.toml: key 'tool.bbrl_exp.alow' is not known; did you mean 'allow'? "
            "allowed: allow, path, config_dir\n",
        )
    assert not (project / "outputs").exists()
    assert call("--help").stdout.startswith("usage: ")


def test_options_of_the_project_are_completed_and_shown(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "bbrl-exp run agent=ow"
    completed = call("run", "-sc", "query=bash", COMP_LINE=line.replace(" run", ""), COMP_POINT="0").stdout
    assert completed.split() == ["agent=own"]
    assert "own.Own" in call("run", "agent=own", "--cfg", "job").stdout
