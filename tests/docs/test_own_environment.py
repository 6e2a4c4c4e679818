"""The environment, the agent and the files of docs/own_environment.md run as the page says, and remember."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own_environment.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, contents in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(contents, encoding="utf-8")
    return tmp_path


def run(folder: Path, command: str, *options: str) -> None:
    """A command of the page in ``folder``."""
    words = shlex.split(command.replace("\\\n", " "))
    variables = dict(word.split("=", 1) for word in words[:2])
    words = [sys.executable, str(ROOT / "scripts" / "run.py"), *words[words.index("scripts/run.py") + 1 :], *options]
    ended = subprocess.run(words, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_page_s_files_are_there() -> None:
    assert len(FILES) == 5
    assert len(COMMANDS) == 2


def test_the_page_s_environment_is_one_like_any_other(folder: Path) -> None:
    run(folder, COMMANDS[0], "total_steps=1024", "name=x", "eval.final_episodes=2", "eval.every=0")
    summary = json.loads((folder / "outputs" / "x" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["env"], summary["env_id"], summary["status"]) == ("tmaze", "TMaze-v0", "completed")


def test_the_page_s_agent_remembers_what_ppo_cannot(folder: Path) -> None:
    command = COMMANDS[1].replace(",recurrent_ppo", "").replace("50_000", "10_240")
    run(folder, command, "tracking=none", "name=x")
    summaries = (folder / "outputs" / "multirun" / "x").glob("*/summary.json")
    returns = {(found := json.loads(path.read_text(encoding="utf-8")))["agent"]: found for path in summaries}
    assert returns["ppo_with_cue"]["eval_return_mean"] > 0.9
    assert returns["ppo"]["eval_return_mean"] < 0.8
