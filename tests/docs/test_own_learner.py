"""The policy and the learner of docs/own_learner.md run as the page says, learn, and go on with the same bits."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own_learner.md").read_text(encoding="utf-8")
SHORT = ("total_steps=12800", "eval.every=0", "eval.final_episodes=10", "tracking=none", "checkpoint.every=1280")


def block(language: str) -> str:
    """The page's block of code in this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def run(folder: Path, *options: str) -> list[float]:
    """The page's command in ``folder``, and the returns of the last policy; none where the run is not over."""
    words = shlex.split(block("sh"))
    variables = dict(word.split("=", 1) for word in words[:2])
    script = words.index("scripts/run.py")
    command = [sys.executable, str(ROOT / "scripts" / "run.py"), *words[script + 1 :], *SHORT, *options]
    ended = subprocess.run(command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    name = next(option.removeprefix("name=") for option in options if option.startswith("name="))
    summary = json.loads((folder / "outputs" / name / "summary.json").read_text(encoding="utf-8"))
    return summary["eval_returns"] or []


def test_the_page_s_learner_learns_and_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    for file, language in (("my_package/actor_critic.py", "python"), ("my_conf/agent/actor_critic.yaml", "yaml")):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(block(language), encoding="utf-8")
    straight = run(tmp_path, "name=straight")
    assert sum(straight) / len(straight) > 100  # a random policy keeps the pole up for 22 steps
    assert run(tmp_path, "name=stopped", "pause_after=6400") == []
    assert run(tmp_path, "name=stopped") == straight
