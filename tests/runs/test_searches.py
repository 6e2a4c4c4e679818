"""Searches through the command line, with real runs."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from .conftest import CommandLine

FOLDER = Path("outputs") / "multirun" / "s"
PPO = [
    "-m",
    "search=ppo",
    "name=s",
    "total_steps=256",
    "batch_size=2",
    "agent.steps_per_chunk=32",
    "agent.learner.n_epochs=1",
    "agent.learner.n_minibatches=1",
    "eval.every=64",
    "eval.episodes=1",
    "eval.final_episodes=1",
    "tracking.tensorboard=false",
    "hydra.sweeper.seeds=[1,2]",
]
RANDOM = [
    "-m",
    "hydra/sweeper=optuna",
    "name=s",
    "agent=random",
    "total_steps=2048",  # the longest episodes have 200 time steps, in 8 environments
    "tracking=none",
    "hydra.sweeper.objective=return_mean",
]


def found() -> dict[str, Any]:
    contents: dict[str, Any] = json.loads((FOLDER / "search.json").read_text())
    return contents


def test_a_search_prunes_and_its_best_runs_again_to_the_same_value(
    command_line: CommandLine,
) -> None:
    pruned = [*PPO, "hydra.sweeper.pruner=halving", "hydra.sweeper.parallel_trials=2", "hydra.sweeper.rungs=[128]"]
    ended = command_line(*pruned, "hydra.sweeper.n_trials=2")
    assert (ended.code, ended.err) == (0, "")
    search = found()
    assert sorted(trial["status"] for trial in search["trials"]) == ["completed", "pruned"]
    steps = {
        trial["status"]: [
            json.loads((FOLDER / name / "summary.json").read_text())["env_steps"] for name in trial["folders"]
        ]
        for trial in search["trials"]
    }
    assert steps == {"completed": [256, 256], "pruned": [128, 128]}
    assert sorted(name for trial in search["trials"] for name in trial["folders"]) == [
        f"trial={trial},seed={seed}" for trial in (0, 1) for seed in (1, 2)
    ]
    assert search["best"]["value"] == sum(search["best"]["values"].values()) / 2
    assert len(json.loads((FOLDER / "sweep.json").read_text())["jobs"]) == 4

    command = shlex.split(search["best"]["command"])
    assert command[:2] == ["bbrl-exp", "run"]
    assert ended.out.splitlines()[-2].startswith("best: ")
    assert ended.out.splitlines()[-2].endswith(f" run {shlex.join(command[2:])}")
    assert command_line(*command[2:], "seed=2", "eval.seed=1", "name=again").code == 0
    again = json.loads((Path("outputs") / "again" / "summary.json").read_text())
    assert again["eval_return_mean"] == search["best"]["values"]["2"]


def test_a_search_over_random_agents_fails_one_trial_and_goes_on_with_more(command_line: CommandLine) -> None:
    grid = [
        *RANDOM,
        "hydra.sweeper.sampler=grid",
        "hydra.sweeper.seeds=[1]",
        "env.id=CartPole-v1,NoSuch-v1,MountainCar-v0",
    ]
    ended = command_line(*grid, "hydra.sweeper.parallel_trials=3")
    assert ended.code == 1
    assert [trial["status"] for trial in found()["trials"]] == ["completed", "completed", "failed"]
    assert "NoSuch" in found()["trials"][-1]["error"]
    with (FOLDER / "search.csv").open(newline="") as file:
        assert [row["env.id"] for row in csv.DictReader(file)] == ["CartPole-v1", "MountainCar-v0", "NoSuch-v1"]
    before = found()
    ended = command_line(*grid, "hydra.sweeper.parallel_trials=3")
    assert ended.code == 1
    assert "3 trials of 1 runs, 0 to run" in ended.out
    assert found() == before


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["agent.members.policy.nothing=1,2"], "key 'agent.members.policy.nothing' is not known"),
        (["agent.members.policy.seed=1,2", "hydra.sweeper.sampler=cma"], "must be one of tpe, random, grid"),
        ([], "a search needs a space"),
        (["agent.members.policy.seed=1,2", "+hydra.sweeper.seed=1"], "key 'hydra.sweeper.seed' is not known"),
        (["agent.members.policy.seed=1,2", "+hydra.sweeper.params={_target_: os.getcwd}"], "not allowed below 'hydra'"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line_and_nothing_is_made(
    overrides: list[str], reason: str, command_line: CommandLine, tmp_path: Path
) -> None:
    ended = command_line(*RANDOM, *overrides)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert reason in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_the_space_and_makes_nothing(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line(*PPO, "dry_run=true")
    assert ended.code == 0
    assert "tag(log, interval(1e-4, 1e-2))" in ended.out
    assert "50 trials by tpe, 2 runs each, 1 at once: 100 runs" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_a_search_needs_no_m(command_line: CommandLine) -> None:
    assert command_line(*PPO[1:], "dry_run=true").code == 0
    ended = command_line(*RANDOM[1:])
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "a search needs a space" in ended.err
