"""BBRL's pictures of policies and critics, its films, and its tests of differences."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from bbrl import stats
from bbrl.agents import Agent, TemporalAgent
from bbrl.agents.gymnasium import ParallelGymAgent, make_env, record_video
from bbrl.visu.plot_critics import plot_critic, plot_discrete_q
from bbrl.visu.plot_policies import plot_policy
from bbrl.visu.plot_trajectories import plot_trajectory
from bbrl.visu.svpg_histograms import plot_histograms
from bbrl.visu.visu_critics import plot_critic as plot_critic_of_2022
from bbrl.workspace import Workspace
from PIL import Image

from bbrl_exp.errors import ConfigurationError


class Critic(Agent):
    """The value is the first component of the observation, so that it grows to the right."""

    is_q_function = False

    def forward(self, t: int, **kwargs: object) -> None:
        self.set(("critic/v_values", t), self.get(("env/env_obs", t))[:, 0])


class Discrete(Agent):
    is_q_function = True

    def forward(self, t: int, **kwargs: object) -> None:
        obs = self.get(("env/env_obs", t))
        self.set(("critic/q_values", t), obs[:, :2])


class ActionValue(Agent):
    is_q_function = True

    def forward(self, t: int, **kwargs: object) -> None:
        value = self.get(("env/env_obs", t))[:, 1] + self.get(("action", t)).sum(-1)
        self.set(("critic/q_values", t), value)


class Policy(Agent):
    def forward(self, t: int, stochastic: bool = True, **kwargs: object) -> None:
        assert stochastic is False
        self.set(("action", t), self.get(("env/env_obs", t))[:, :1])


@pytest.fixture(scope="module")
def env() -> ParallelGymAgent:
    return ParallelGymAgent(partial(make_env, "Pendulum-v1"), 1)


def shown(path: Path) -> np.ndarray:
    """The brightness of the middle row of the picture's axes, from left to right."""
    grey = np.asarray(Image.open(path).convert("L"), float)
    return grey[len(grey) // 2, 150:700]


def test_a_critic_and_a_policy_are_drawn_over_two_components(env: ParallelGymAgent, tmp_path: Path) -> None:
    plot_critic(Critic("critic"), env, torch.tensor(12.5), str(tmp_path), definition=10)
    found = tmp_path / "Pendulum-v1_critics" / "critic_Pendulum-v1_12.5.png"
    assert shown(found)[0] < shown(found)[-1]  # the colours of inferno go from dark to bright
    plot_policy(Policy("policy"), env, 3, str(tmp_path), "mine", definition=10, stochastic=False)
    assert (tmp_path / "mine_policies" / "policy_mine_dim_0_3.png").exists()


def test_critics_of_actions_are_drawn_for_one_or_the_best(env: ParallelGymAgent, tmp_path: Path) -> None:
    for action in (None, "policy", 1):
        plot_discrete_q(Discrete("critic"), env, 1.0, f"{tmp_path}/{action}", definition=5, input_action=action)
        assert len(list((tmp_path / str(action)).rglob("*.png"))) == 1
    plot_critic_of_2022(ActionValue("critic"), env, 1.0, str(tmp_path / "given"), definition=5, input_action=[0.5])
    plot_critic(ActionValue("critic"), env, 1.0, str(tmp_path / "drawn"), definition=5)
    assert len(list(tmp_path.rglob("critic_*.png"))) == 5


def test_other_observations_are_refused(tmp_path: Path) -> None:
    env = ParallelGymAgent(partial(make_env, "FrozenLake-v1"), 1)
    with pytest.raises(ConfigurationError) as caught:
        plot_policy(Policy("policy"), env, 0, str(tmp_path))
    assert str(caught.value) == "a picture needs a Box observation of at least two components, found Discrete(16)"


def test_trajectories_and_histograms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace()
    workspace.set_full("env/env_obs", torch.rand(5, 2, 3))
    plot_trajectory(workspace, plot=False)
    plot_histograms([[1, 2], [3, 4]], ["a", "b"], ["red", "blue"], "mine", "here", plot=False)
    assert {path.name for path in tmp_path.rglob("*.*")} == {"trajectory_1.pdf", "mine-indep_vs_svpg.png"}


def test_an_episode_is_filmed(tmp_path: Path) -> None:
    class Left(Agent):
        def forward(self, t: int, **kwargs: object) -> None:
            self.set(("action", t), torch.zeros(len(self.get(("env/env_obs", t))), dtype=torch.int64))

    env = make_env("CartPole-v1", render_mode="rgb_array")
    film = record_video(env, TemporalAgent(Left()), tmp_path / "best_agent")
    assert film.parent == tmp_path / "best_agent"
    assert film.name == "rl-video-episode-0.mp4"
    assert film.read_bytes()[4:8] == b"ftyp"
    with pytest.raises(ConfigurationError) as caught:
        record_video(make_env("CartPole-v1"), Left(), tmp_path)
    assert str(caught.value) == (
        "record_video: the environment has render_mode=None; make it with render_mode='rgb_array'"
    )


TESTS = ["TTest", "WelchTTest", "MannWhitneyTest", "RankedTTest", "PermutationTest", "BootstrapTest"]


@pytest.mark.parametrize("name", TESTS)
def test_samples_that_differ_are_told_apart_and_others_are_not(name: str) -> None:
    np.random.seed(0)
    test = getattr(stats, name)()
    one = np.arange(12.0)
    assert test.run_test(one, one + 30) is True
    assert test.run_test(one, one + 0.1) is False


def test_learning_curves_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    curves = torch.rand(20, 5)
    stats.WelchTTest().plot(curves, curves + 5, legends="ddpg/td3", point_every=10)
    assert (tmp_path / "plot.png").exists()
    with pytest.raises(ConfigurationError) as caught:
        stats.WelchTTest().plot(curves[0], curves)
    assert str(caught.value) == "data1: expected [evaluations, seeds], found [5]"


def test_the_error_around_a_curve_is_what_was_asked_for() -> None:
    sample = np.array([[0.0, 1, 2, 3, 4], [4, 4, 4, 4, np.nan]])
    central, low, high = stats.compute_central_tendency_and_error("median", 80, sample)
    assert (central.tolist(), low[0], high[0]) == ([2, 4], pytest.approx(0.4), pytest.approx(3.6))
    central, low, _ = stats.compute_central_tendency_and_error("mean", "sem", sample)
    assert central[0] - low[0] == pytest.approx(np.std(sample[0]) / np.sqrt(5))
    with pytest.raises(ConfigurationError, match="id_error='half': must be std, sem or a number of percent"):
        stats.compute_central_tendency_and_error("mean", "half", sample)
