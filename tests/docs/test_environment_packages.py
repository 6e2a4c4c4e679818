"""The commands of docs/environment_packages.md, and that Pong resumes bit for bit."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pages import Page, run, summary

from bbrl_exp.runs.run import run as run_here

PAGE = Page.read("environment_packages.md")
DOORKEY, UNLOCK, STOPPED, RESUMED, POPGYM = PAGE.commands
SHORT = ("total_steps=64", "batch_size=2", "agent.steps_per_chunk=16", "eval.every=0", "eval.final_episodes=0")
BRIEF = (*SHORT, "tracking=none", "name=run")


def policy(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the last policy, by their names."""
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["state"]
    return dict(tensors(state, "state"))


def tensors(state: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(state, torch.Tensor):
        yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from tensors(value, f"{name}.{key}")


@pytest.mark.parametrize(("command", "module"), [(DOORKEY, "minigrid"), (UNLOCK, "minigrid"), (POPGYM, "popgym")])
def test_a_command_of_the_page_runs(command: str, module: str, tmp_path: Path) -> None:
    pytest.importorskip(module)
    PAGE.write_files(tmp_path)
    printed = run(tmp_path, command, *BRIEF).stdout
    assert summary(tmp_path, "run")["status"] == "completed"
    if command == UNLOCK:
        assert "[T, 2, 11, 6, 3]" in printed  # the whole grid


@pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="needs the extra atari")
def test_a_run_of_pong_that_was_stopped_equals_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # in this process, which saves the time of starting three
    stopped, resumed = (shlex.split(command.replace("\\\n", " "))[2:] for command in (STOPPED, RESUMED))
    run_here([*resumed, "name=straight"])
    assert run_here(stopped).summary.env_steps == 32
    run_here(resumed)
    straight, pong = (policy(tmp_path / "outputs" / name) for name in ("straight", "pong"))
    assert straight.keys() == pong.keys()
    assert len(straight) > 8
    assert all(torch.equal(values, pong[name]) for name, values in straight.items())
    assert summary(tmp_path, "pong")["status"] == "completed"
