"""The project of docs/installed_command.md runs as the page says: alone, resumed by what it prints, and in a sweep."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from pages import ROOT, Page, job_summaries, run, summary

from bbrl_exp.commands.main import VERBS

PAGE = Page.read("installed_command.md")
SHORT = ("eval.every=0", "eval.final_episodes=5", "tracking=none")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BBRL_EXP_ALLOW", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    PAGE.write_files(tmp_path)
    return tmp_path


def test_the_page_names_every_command() -> None:
    text = (ROOT / "docs" / "installed_command.md").read_text(encoding="utf-8")
    assert all(f"\n| `bbrl-exp {verb} " in text for verb in VERBS)


def test_the_first_command_of_the_page_runs_in_any_folder(tmp_path: Path) -> None:
    install, first = PAGE.commands[0].splitlines()
    assert install.startswith("pip install .")
    run(tmp_path, first, "total_steps=64", "agent.steps_per_chunk=8", "name=a")
    assert summary(tmp_path, "a")["status"] == "completed"


def test_the_page_s_project_learns_and_resumes_by_the_command_that_it_prints(folder: Path) -> None:
    out = run(folder, PAGE.commands[1], *SHORT).stdout
    assert "\n  project            pyproject.toml: allow corridor; path src; config_dir conf\n" in out
    straight = summary(folder, "first")
    assert straight["env_id"] == "Corridor-v0"
    assert straight["eval_return_mean"] > 0.5

    out = run(folder, PAGE.commands[2], *SHORT).stdout
    (line,) = (line for line in out.splitlines() if line.startswith("to resume: "))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BBRL_EXP_")}
    command = line.removeprefix("to resume: ")
    ended = subprocess.run(["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert "resumes after 5,120 environment steps" in ended.stdout, ended.stderr
    resumed = summary(folder, Path(ended.stdout.splitlines()[-1]).name)
    assert (resumed["status"], resumed["eval_returns"]) == ("completed", straight["eval_returns"])


def test_the_page_s_sweep_and_its_report(folder: Path) -> None:
    run(folder, PAGE.commands[3], *SHORT, "total_steps=512")
    found = job_summaries(folder, "rates")
    assert [(each["status"], each["env"]) for each in found] == [("completed", "corridor")] * 4
    out = run(folder, PAGE.commands[4]).stdout
    assert "4 of 4 runs compared by eval_return_mean, 2 settings" in out
    assert "sweep: 4 jobs, 0 to run" in run(folder, PAGE.commands[3], *SHORT, "total_steps=512").stdout


def test_the_examples_of_the_other_pages_run_with_the_project_file_of_this_page(folder: Path) -> None:
    text = (ROOT / "docs" / "installed_command.md").read_text(encoding="utf-8")
    _, project = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (command,) = re.findall(r"`(bbrl-exp run agent=recurrent_ppo env=tmaze)`", text)
    other = folder / "other"
    Page.read("own_environment.md").write_files(other)
    (other / "pyproject.toml").write_text(project, encoding="utf-8")
    out = run(other, command, *SHORT, "total_steps=256", "agent.steps_per_chunk=32", "name=a").stdout
    assert "\n  project            pyproject.toml: allow my_package; path .; config_dir my_conf\n" in out
    assert summary(other, "a")["env_id"] == "TMaze-v0"
