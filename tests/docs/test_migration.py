"""The lab of docs/migration.md runs unchanged under the layer, and as an experiment."""

import subprocess
import sys
from pathlib import Path

from pages import Page, run, summary

PAGE = Page.read("migration.md")


def test_the_lab_runs_unchanged_and_learns(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    program, *words = PAGE.commands[0].split()
    assert program == "python"
    found = subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert float(found.stdout.removeprefix("return: ")) > 60  # a random policy keeps the pole up for 22 steps


def test_a_program_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bbrl_exp.compat", "nothing.py"]
    found = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (
        2,
        "'nothing.py': no such file; usage: python -m bbrl_exp.compat <program> [arguments]\n",
    )


def test_the_experiment_learns_and_resumes(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    short = ("eval.every=0", "eval.final_episodes=10", "tracking=none", "batch_size=8", "name=lab")
    run(tmp_path, PAGE.commands[1], *short, "pause_after=7680")
    assert summary(tmp_path, "lab")["status"] == "paused"
    run(tmp_path, PAGE.commands[1], *short)
    returns = summary(tmp_path, "lab")["eval_returns"]
    assert sum(returns) / len(returns) > 60
