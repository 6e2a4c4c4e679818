"""Atari games: standard preprocessing, the same pixels however they are stepped, resumed exactly."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from bbrl_exp.envs.atari import AtariBatch
from bbrl_exp.envs.checks import check_resumable, played, random_actions
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.workspace import Workspace

pytest.importorskip("ale_py")
pytest.importorskip("cv2")

PONG = "Atari/Pong-v5"


def games(stepping: str, batch_size: int = 2, seed: int = 0, **kwargs: Any) -> AutoResetGymAgent:
    return AutoResetGymAgent(PONG, batch_size, seed, stepping=stepping, kwargs=kwargs)  # type: ignore[arg-type]


def rows(agent: AutoResetGymAgent, n_steps: int) -> Mapping[str, torch.Tensor]:
    workspace = played(agent, Workspace(), random_actions(agent.env_spec, n_steps))
    return {name: workspace.get_full(name) for name in workspace.keys()}  # noqa: SIM118


def test_an_observation_is_a_stack_of_four_grey_frames_and_an_action_lasts_four_frames() -> None:
    agent = games("scalar", batch_size=1)
    (leaf,) = agent.env_spec.observations
    assert (leaf.shape, leaf.dtype) == ((4, 84, 84), "uint8")
    found = rows(agent, 3)["env/env_obs"]
    assert not found[0, 0, :3].any()  # black before the first frame
    assert torch.equal(found[1, 0, :3], found[0, 0, 1:])
    assert torch.equal(found[2, 0, :3], found[1, 0, 1:])
    frames = agent.envs[0].unwrapped.ale.getEpisodeFrameNumber()  # type: ignore[attr-defined]
    agent.envs[0].step(0)
    assert agent.envs[0].unwrapped.ale.getEpisodeFrameNumber() == frames + 4  # type: ignore[attr-defined]


def test_vectorised_games_show_the_same_rows_as_single_ones() -> None:
    # What differs between the two are the draws: frames without action at the start, and repeated actions.
    settings = {"noop_max": 0, "repeat_action_probability": 0.0, "max_num_frames_per_episode": 120}
    single, vectorised = (rows(games(stepping, **settings), 45) for stepping in ("scalar", "vectorized"))
    assert bool(single["env/truncated"].any())
    for name, values in single.items():
        assert torch.equal(values, vectorised[name]), name


def test_what_a_vectorised_game_shows_depends_on_its_index_and_the_seed_only() -> None:
    alone = AtariBatch("pong", 1, max_num_frames_per_episode=60)
    among_three = AtariBatch("pong", 3, max_num_frames_per_episode=60, num_threads=2)
    other_seed = AtariBatch("pong", 1)
    shown = [batch.reset(seed=seed)[0] for batch, seed in ((alone, 7), (among_three, 7), (other_seed, 8))]
    assert np.array_equal(shown[0][0], shown[1][0])
    differs = not np.array_equal(shown[0][0], shown[2][0])
    generator, n_ended = np.random.default_rng(0), 0
    for _ in range(20):
        actions = generator.integers(6, size=3)
        one, three, other = alone.step(actions[:1]), among_three.step(actions), other_seed.step(actions[:1])
        assert all(np.array_equal(a[:1], b[:1]) for a, b in zip(one[:4], three[:4], strict=True))
        differs |= not np.array_equal(one[0], other[0])
        n_ended += int(one[3][0])
    assert differs
    assert n_ended == 1  # so that the next episode is compared as well


@pytest.mark.parametrize(("stepping", "noop_max"), [("scalar", 30), ("vectorized", 1)])
def test_games_resume_exactly_in_the_middle_of_episodes(stepping: str, noop_max: int) -> None:
    check_resumable(lambda: games(stepping, noop_max=noop_max, max_num_frames_per_episode=60))


def test_vectorised_games_resume_in_later_episodes_of_different_lengths() -> None:
    first, second = AtariBatch("pong", 2), AtariBatch("pong", 2)
    first.reset(seed=0)
    actions = np.random.default_rng(0).integers(6, size=(12, 2))
    for step in range(10):
        first._ended[1] |= step == 5  # as if a game were over there
        first.step(actions[step])
    state = copy.deepcopy(first.run_state())
    assert state["n_steps"].tolist() == [10, 4]
    second.load_run_state(state)
    second._ended[0] = first._ended[0] = True  # the next episode is the same one, too
    for step in (10, 11):
        assert np.array_equal(first.step(actions[step])[0], second.step(actions[step])[0])


def test_a_state_that_leads_elsewhere_is_refused() -> None:
    batch = AtariBatch("pong", 1)
    batch.reset(seed=0)
    batch.step(np.array([3]))
    state = batch.run_state()
    state["observation"][0, 3] ^= 1
    with pytest.raises(BbrlExpError) as caught:
        AtariBatch("pong", 1).load_run_state(state)
    assert str(caught.value) == (
        "games show other frames than they did after 1 actions were played once more: they are not deterministic, and "
        "this run cannot be resumed exactly"
    )


def test_an_unknown_game_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match=r"env 'Atari/Pongg-v5': unknown Gymnasium id; did you mean 'Atari/Po"):
        AutoResetGymAgent("Atari/Pongg-v5", 1)


@pytest.mark.parametrize("stepping", ["scalar", "vectorized"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"frame_skip": 0}, "kwargs.frame_skip=0: must be at least 1"),
        ({"noop_max": -1}, "kwargs.noop_max=-1: must be at least 0"),
        (
            {"frame_skp": 4},
            "Atari games have no argument 'frame_skp'; possible: frame_skip, screen_size, stack_size, noop_max, "
            "terminal_on_life_loss, repeat_action_probability, full_action_space, max_num_frames_per_episode, "
            "num_threads; did you mean 'frame_skip'?",
        ),
    ],
)
def test_arguments_that_games_do_not_have_are_refused(stepping: str, arguments: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        games(stepping, **arguments)
    assert str(caught.value) == said


@pytest.mark.parametrize("stepping", ["scalar", "vectorized"])
def test_the_limit_of_an_episode_is_known_so_that_evaluations_are_not_cut(stepping: str) -> None:
    assert games(stepping).env_spec.max_episode_steps == 27_000
    short = games(stepping, batch_size=1, max_num_frames_per_episode=50, noop_max=0)
    assert short.env_spec.max_episode_steps == 13  # of four frames
    assert rows(short, 14)["env/done"][:, 0].tolist().index(True) == 13
    evaluation = short.for_evaluation(2, 0, "eval")
    assert evaluation.env_spec.max_episode_steps == 13
    assert rows(evaluation, 14)["env/truncated"][13].tolist() == [True, True]


def test_an_episode_begins_with_one_to_noop_max_frames_without_action_however_games_are_stepped() -> None:
    single = games("scalar", batch_size=1, noop_max=3).envs[0]
    single.reset(seed=0)
    drawn = [single.reset()[1]["episode_frame_number"] for _ in range(90)]
    counts = np.bincount(drawn)
    assert (len(counts), counts[0]) == (4, 0)
    np.testing.assert_allclose(counts[1:], 30, atol=18)  # four standard deviations
    batch = AtariBatch("pong", 6, noop_max=3, max_num_frames_per_episode=4)
    first = batch.reset(seed=0)[1]["episode_frame_number"]
    _, _, _, truncated, _ = batch.step(np.zeros(6, np.int64))
    following = batch.step(np.zeros(6, np.int64))[4]["episode_frame_number"]
    assert truncated.all()
    assert {*first.tolist()} | {*following.tolist()} == {1, 2, 3}


@pytest.mark.parametrize("stepping", ["scalar", "vectorized"])
def test_without_such_frames_the_first_observation_is_always_the_same(stepping: str) -> None:
    shown = rows(games(stepping, noop_max=0), 1)["env/env_obs"][0]
    assert torch.equal(shown[0], shown[1])
