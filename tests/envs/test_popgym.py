"""Every environment of POPGym runs, repeats itself by seed and can be resumed."""

from __future__ import annotations

import copy

import pytest
import torch

from bbrl_exp.envs.checks import played, random_actions
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.workspace import Workspace

pytest.importorskip("popgym")

GAMES = [
    "Autoencode",
    "Battleship",
    "Concentration",
    "CountRecall",
    "HigherLower",
    "MineSweeper",
    "MultiarmedBandit",
    "NoisyPositionOnlyCartPole",
    "NoisyPositionOnlyPendulum",
    "PositionOnlyCartPole",
    "PositionOnlyPendulum",
    "RepeatFirst",
    "RepeatPrevious",
    "VelocityOnlyCartpole",
]


@pytest.mark.parametrize("difficulty", ["Easy", "Medium", "Hard"])
@pytest.mark.parametrize("game", GAMES)
def test_a_game_repeats_itself_and_resumes(game: str, difficulty: str) -> None:
    first, again, resumed = (AutoResetGymAgent(f"popgym-{game}{difficulty}-v0", 2, 3) for _ in range(3))
    actions = random_actions(first.env_spec, 80)
    before, repeated = (played(agent, Workspace(), actions[:70]) for agent in (first, again))
    resumed.load_run_state(copy.deepcopy(first.run_state()))
    after, resumed_after = (played(agent, Workspace(before), actions[70:]) for agent in (first, resumed))
    for name in before.keys():  # noqa: SIM118
        assert torch.equal(before[name], repeated[name]), name
        assert torch.equal(after[name], resumed_after[name]), name
