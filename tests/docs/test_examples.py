"""The examples of docs/examples run as their pages say, and show what the pages say that they show."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import torch
from pages import Page, run, summary

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.envs.gym_agents import NoAutoResetGymAgent
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.workspace import Workspace

SHORT = ("tracking.tensorboard=false", "eval.every=0")
CHEAP = ("agent.learner.n_minibatches=1",)


def written(folder: Path, name: str) -> Page:
    """The page ``docs/examples/<name>``, with its files in a folder."""
    page = Page.read(f"examples/{name}")
    page.write_files(folder)
    return page


def curve(folder: Path, name: str, metric: str) -> list[float]:
    with (folder / "outputs" / name / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == metric]


def test_curiosity_explores_more_states_than_without(tmp_path: Path) -> None:
    sweep, program = written(tmp_path, "curiosity.md").commands
    run(tmp_path, sweep, *CHEAP, "total_steps=10240", "seed=0", "eval.every=0", "eval.final_episodes=1")
    found = re.findall(r"weight (\S+), seed 0: (\d+) of 64 states seen", run(tmp_path, program).stdout)
    seen = {float(weight): int(count) for weight, count in found}
    assert 8 < seen[0.0] < seen[0.5]


def test_shaping_finds_a_corner_that_the_plain_reward_does_not(tmp_path: Path) -> None:
    (block,) = written(tmp_path, "reward_shaping.md").commands
    for command in block.splitlines():
        run(tmp_path, command, *SHORT, *CHEAP, "total_steps=10240", "eval.final_episodes=2")
    assert summary(tmp_path, "shaped")["eval_return_mean"] == 1.0
    assert summary(tmp_path, "plain")["eval_return_mean"] == 0.0


def test_what_shaping_adds_to_an_episode_depends_on_its_first_state_alone() -> None:
    names: dict[str, Any] = {}
    exec(Page.read("examples/reward_shaping.md").files["my_package/shaping.py"], names)
    env = NoAutoResetGymAgent("FrozenLake8x8-v1", 8)
    agents = Agents(env, names["DistanceShaping"](discount=0.9), RandomAgent(env.env_spec))
    workspace = Workspace()
    TemporalAgent(agents)(workspace, stop_variable="env/done")
    assert workspace["env/terminated"][-1].all()
    added = workspace["shaped/env/reward"] - workspace["env/reward"]
    added = added * ~torch.cat([torch.zeros(1, 8, dtype=torch.bool), workspace["env/done"][:-1]])  # frozen rows
    discounts = 0.9 ** torch.arange(-1, len(added) - 1)
    torch.testing.assert_close((discounts[:, None] * added).sum(0), torch.full((8,), 1.4))


def test_a_policy_learns_what_the_expert_would_do(tmp_path: Path) -> None:
    (command,) = written(tmp_path, "expert.md").commands
    run(tmp_path, command, *SHORT, "eval.final_episodes=5")
    agreement = curve(tmp_path, "imitation", "learner/agreement")
    assert agreement[-1] > 0.85 > agreement[0]
    assert summary(tmp_path, "imitation")["eval_return_mean"] > 300  # a random policy keeps the pole up for 22 steps


def test_two_players_become_perfect_against_each_other(tmp_path: Path) -> None:
    (command,) = written(tmp_path, "two_policies.md").commands
    run(tmp_path, command, *SHORT)
    right = curve(tmp_path, "nim", "learner/right_moves")
    assert right[0] < 1.0 == right[-1]


def test_the_policy_of_ppo_learns_to_predict(tmp_path: Path) -> None:
    (command,) = written(tmp_path, "auxiliary_loss.md").commands
    run(tmp_path, command, *SHORT, "total_steps=4096", "eval.final_episodes=1", "checkpoint.every=1024")
    errors = curve(tmp_path, "predictive", "losses/prediction")
    assert errors[-1] < 0.1 < 1 < errors[0]
