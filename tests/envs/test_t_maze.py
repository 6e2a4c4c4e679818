"""The T-maze is what its docstring says; its optimum and the best a policy without a memory does are played out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from bbrl_exp.agents import Agent, Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.envs.t_maze import AHEAD, BACK, LEFT, RIGHT, TMaze
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.run import run
from bbrl_exp.workspace import Workspace

SEED_OF_LEFT, SEED_OF_RIGHT = 1, 0
START_LEFT, START_RIGHT, CORRIDOR, JUNCTION = (-1.0, 0.0), (1.0, 0.0), (0.0, 0.0), (0.0, 1.0)
Seen = list[tuple[float, float]]
Episode = tuple[Seen, list[float], bool, bool]


def played(length: int, seed: int, chooses: Callable[[Seen], int]) -> Episode:
    """One episode: what is seen, the rewards, and how it ends."""
    env = gymnasium.make("bbrl_exp/TMaze-v0", corridor_length=length, disable_env_checker=True)
    observation, _ = env.reset(seed=seed)
    seen, rewards, terminated, truncated = [tuple(observation.tolist())], [], False, False
    while not (terminated or truncated):
        observation, reward, terminated, truncated, info = env.step(chooses(seen))
        seen.append(tuple(observation.tolist()))
        rewards.append(float(reward))
        assert info == {"is_success": terminated and reward == 1.0}
    return seen, rewards, terminated, truncated


def follows_the_cue(seen: Seen) -> int:
    if seen[-1] != JUNCTION:
        return AHEAD
    return LEFT if seen[0] == START_LEFT else RIGHT


def test_gymnasium_finds_nothing_wrong_with_it() -> None:
    check_env(gymnasium.make("bbrl_exp/TMaze-v0", render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize(
    ("seed", "start", "turn"), [(SEED_OF_LEFT, START_LEFT, LEFT), (SEED_OF_RIGHT, START_RIGHT, RIGHT)]
)
def test_the_cue_is_seen_in_the_first_row_only_and_decides_at_the_junction(
    seed: int, start: tuple[float, float], turn: int
) -> None:
    seen = [start, CORRIDOR, CORRIDOR, JUNCTION, JUNCTION]
    assert played(3, seed, follows_the_cue) == (seen, [0.0, 0.0, 0.0, 1.0], True, False)
    wrong = LEFT + RIGHT - turn
    assert played(3, seed, lambda seen: wrong if seen[-1] == JUNCTION else AHEAD) == (
        seen,
        [0.0, 0.0, 0.0, 0.0],
        True,
        False,
    )


def test_a_step_that_does_not_lead_ahead_costs_the_length_th_part_and_shows_no_cue() -> None:
    actions = [LEFT, RIGHT, BACK, AHEAD, BACK, AHEAD, AHEAD, AHEAD, AHEAD, BACK]
    seen, rewards, terminated, truncated = played(4, SEED_OF_LEFT, lambda seen: actions[len(seen) - 1])
    assert seen == [START_LEFT, *[CORRIDOR] * 8, JUNCTION, CORRIDOR]
    assert rewards == [-0.25, -0.25, -0.25, 0.0, -0.25, 0.0, 0.0, 0.0, 0.0, -0.25]
    assert (terminated, truncated) == (False, True)  # 10 steps: twice the 5 that it takes


def test_who_bumps_into_the_end_of_the_corridor_stays_at_the_junction() -> None:
    seen, rewards, _, _ = played(1, SEED_OF_LEFT, lambda seen: AHEAD)
    assert (seen, rewards) == ([START_LEFT, JUNCTION, JUNCTION, JUNCTION, JUNCTION], [0.0, -1.0, -1.0, -1.0])


@pytest.mark.parametrize("length", [1, 2, 5, 20])
def test_the_optimum_is_1_and_the_best_without_a_memory_is_a_half(length: int) -> None:
    """Every deterministic policy without a memory is played out on both cues; mixtures of them do no better."""
    both = (SEED_OF_LEFT, SEED_OF_RIGHT)
    for seed in both:
        _, rewards, _, _ = played(length, seed, follows_the_cue)
        assert (sum(rewards), len(rewards)) == (1.0, length + 1)
    returns = []
    for left, right, corridor, junction in itertools.product(range(4), repeat=4):
        acts = {START_LEFT: left, START_RIGHT: right, CORRIDOR: corridor, JUNCTION: junction}
        returns.append(np.mean([sum(played(length, seed, lambda seen, acts=acts: acts[seen[-1]])[1]) for seed in both]))
    assert max(returns) == 0.5


def test_both_cues_are_as_likely() -> None:
    env = TMaze(1)
    env.reset(seed=0)
    cues = [float(env.reset()[0][0]) for _ in range(4000)]
    assert set(cues) == {-1.0, 1.0}
    assert abs(np.mean(cues)) < 4 / np.sqrt(4000)  # four standard deviations


def test_the_picture_shows_agent_and_goal() -> None:
    env = TMaze(3, render_mode="rgb_array")
    env.reset(seed=SEED_OF_LEFT)
    env.step(AHEAD)
    picture = env.render()
    assert picture is not None
    assert picture.shape == (40, 48, 3)
    cells = picture[::8, ::8]
    assert [tuple(place) for place in np.argwhere((cells == (200, 30, 30)).all(-1))] == [(2, 2)]
    assert [tuple(place) for place in np.argwhere((cells == (40, 160, 60)).all(-1))] == [(1, 4)]
    assert TMaze(3).render() is None


class Walks(Agent):
    """Goes ahead, and turns left at the junction."""

    def forward(self, t: int, **kwargs: object) -> None:
        at_the_junction = self.get(("env/env_obs", t))[:, 1] == 1
        self.set(("action", t), torch.where(at_the_junction, LEFT, AHEAD))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_workspace_shows_it_alike_from_workers(workers: int) -> None:
    agent = AutoResetGymAgent(
        "bbrl_exp/TMaze-v0", 2, workers=workers, kwargs={"corridor_length": 2}, info_keys={"is_success": "bool"}
    )
    workspace = Workspace()
    TemporalAgent(Agents(agent, Walks()))(workspace, n_steps=8)
    agent.close()
    assert agent.env_spec.max_episode_steps == 6
    assert workspace["env/env_obs"][:, :, 1].tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]] * 2
    assert workspace["env/terminated"].tolist() == [[False, False]] * 3 + [[True, True]] + [[False, False]] * 3 + [
        [True, True]
    ]
    cues = workspace["env/env_obs"][[0, 4], :, 0]
    assert torch.equal(workspace["env/reward"][[3, 7]], (cues == -1).float())
    assert torch.equal(workspace["env/info/is_success"][[3, 7]], cues == -1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env.kwargs.corridor_length=0"], "key 'env.kwargs.corridor_length' = 0: must be at least 1"),
        (
            ["env.kwargs.corridor_length=2.5"],
            "key 'env.kwargs.corridor_length' = 2.5: must be a whole number, at least 1",
        ),
        (
            ["env.kwargs.corridor_length=null"],
            "key 'env.kwargs.corridor_length' = None: must be a whole number, at least 1",
        ),
        (
            ["env.stepping=vectorized"],
            "key 'env.stepping' = vectorized: bbrl_exp/TMaze-v0 has no vectorised implementation; "
            "possible: scalar, workers",
        ),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    overrides: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        run(["agent=random", "env=t_maze", *overrides])
    assert str(refused.value) == message
    assert list(tmp_path.iterdir()) == []
