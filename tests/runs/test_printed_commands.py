"""The commands that a run prints do what they say when a shell runs them in the same directory."""

import json
import os
import subprocess
from pathlib import Path

import prepared
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SRC = Path(__file__).parents[2] / "src"
SHORT = ["total_steps=192", "agent.steps_per_chunk=8", "tracking=none", "checkpoint.every=64"]
PROGRAMS = {
    "script": lambda verb: [os.path.relpath(SCRIPTS / f"{verb}.py")],
    "module": lambda verb: [*prepared.MODULE, verb],
}
AGENT = "from bbrl_exp import Agent\n\n\nclass Mine(Agent):\n    def forward(self, t, **kwargs):\n        pass\n"
OPTION = "defaults: [random, _self_]\nmembers:\n  mine: {_target_: own_package.Mine, after: env}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, whose name must be quoted, with an agent and an option of the user's own."""
    folder = tmp_path / "it's a (test), \\ é=1 $HOME"
    (folder / "my packages").mkdir(parents=True)
    (folder / "my packages" / "own_package.py").write_text(AGENT)
    (folder / "my conf" / "agent").mkdir(parents=True)
    (folder / "my conf" / "agent" / "mine.yaml").write_text(OPTION)
    monkeypatch.chdir(folder)
    return folder


def call(*words: str, **environment: str) -> str:
    ended = prepared.run(words, Path.cwd(), {**os.environ, **environment})
    assert ended.wait() == 0, ended.stderr
    return ended.stdout


def in_a_shell(line: str) -> str:
    """What the command of a printed line prints in a shell that knows no variable of the first command."""
    command = line.split("to resume: ", 1)[1]
    environment = {"PATH": os.environ["PATH"], "HOME": "/"}
    ended = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{command}\n{ended.stderr}"
    return ended.stdout


def printed(out: str) -> str:
    """The last line that says how to resume."""
    return next(line for line in reversed(out.splitlines()) if "to resume: " in line)


def status_of(folder: Path) -> tuple[str, int]:
    summary = json.loads((folder / "summary.json").read_text())
    return summary["status"], summary["env_steps"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_run_with_own_packages_and_options_is_resumed_by_the_command_that_it_prints(program: str, here: Path) -> None:
    out = call(
        *PROGRAMS[program]("run"),
        "--config-dir",
        "my conf",
        "agent=mine",
        "hydra.run.dir=runs of today/a",
        "hydra.job.chdir=true",
        "pause_after=64",
        *SHORT,
        BBRL_EXP_ALLOW="own_package",
        PYTHONPATH=f"my packages{os.pathsep}{SRC}",
    )
    assert status_of(here / "runs of today" / "a")[1] == 64
    assert "resumes after 64 environment steps" in in_a_shell(printed(out))
    assert status_of(here / "runs of today" / "a") == ("completed", 192)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_rerun_with_an_own_option_is_resumed_by_the_command_that_it_prints(program: str, here: Path) -> None:
    call(*PROGRAMS[program]("run"), "name=first", *SHORT, PYTHONPATH=str(SRC))
    again = [*PROGRAMS[program]("rerun"), "outputs/first", "--config-dir", "my conf", "agent=mine"]
    variables = {"BBRL_EXP_ALLOW": "own_package", "PYTHONPATH": f"my packages{os.pathsep}{SRC}"}
    out = call(*again, "agent.steps_per_chunk=8", "pause_after=64", **variables)
    assert "agent random → mine" in out
    folder = Path(out.splitlines()[-1].removeprefix("folder: "))
    assert "resumes after 64 environment steps" in in_a_shell(printed(out))
    assert status_of(folder) == ("completed", 192)


def test_a_sweep_and_each_of_its_jobs_are_resumed_by_the_commands_that_they_print(here: Path) -> None:
    out = call(
        *PROGRAMS["module"]("run"), "-m", "seed=0,1", "--config-dir=my conf", "agent=mine", "pause_after=64", *SHORT,
        BBRL_EXP_ALLOW="own_package", PYTHONPATH=f"my packages{os.pathsep}{SRC}",
    )  # fmt: skip
    sweep = Path(out.splitlines()[-1].removeprefix("folder: "))
    in_a_shell(printed((sweep / "seed=1" / "run.log").read_text()))
    assert [status_of(sweep / f"seed={seed}")[1] for seed in (0, 1)] == [64, 192]
    again = in_a_shell(printed(out))
    assert "sweep: 2 jobs, 1 to run" in again
    assert [status_of(sweep / f"seed={seed}") for seed in (0, 1)] == [("completed", 192)] * 2
    assert "to resume: " not in again
