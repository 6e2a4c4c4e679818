"""Imperfect sensors show exactly what their docstrings say, and repeat it by seed."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from toy_envs import Counting, DictNoise, Sampling

from bbrl_exp.envs.checks import played, random_actions
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.envs.sensors import DelayedObservation, FlickeringObservation, NoisyObservation
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.run import run
from bbrl_exp.workspace import Workspace

ALL = (partial(NoisyObservation, std=0.1), partial(DelayedObservation, delay=2), partial(FlickeringObservation))
ACTION = np.array([0.5], np.float32)
N_STEPS = 12


def pendulum() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("Pendulum-v1", disable_env_checker=True)


def rows(env: gymnasium.Env[Any, Any], action: Any = ACTION, n_steps: int = N_STEPS, seed: int = 3) -> list[Any]:
    """What an episode shows. An environment may reuse an array, so each is copied."""
    shown = [copy.deepcopy(env.reset(seed=seed)[0])]
    for _ in range(n_steps):
        shown.append(copy.deepcopy(env.step(action)[0]))
        assert env.observation_space.contains(shown[-1])
    return shown


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_an_observation_flickers_where_the_environments_next_draw_is_below_the_probability(probability: float) -> None:
    plain = pendulum()
    expected = rows(plain)
    plain.reset(seed=3)  # draws the first state; the draws that follow are those of the wrapper
    hidden = [plain.unwrapped.np_random.random() < probability for _ in expected]
    assert 0 < sum(hidden) < len(hidden) or probability in (0.0, 1.0)
    found = rows(FlickeringObservation(pendulum(), probability))
    for row, is_hidden, true in zip(found, hidden, expected, strict=True):
        assert row.dtype == np.float32
        assert row.tolist() == ([0.0, 0.0, 0.0] if is_hidden else true.tolist())


def test_noise_is_the_environments_normal_numbers_times_the_standard_deviations() -> None:
    plain = pendulum()
    expected = rows(plain)
    plain.reset(seed=3)
    std = np.array([0.5, 0.0, 2.0])
    found = rows(NoisyObservation(pendulum(), std.tolist()))
    for row, true in zip(found, expected, strict=True):
        noise = std * plain.unwrapped.np_random.standard_normal(3)
        assert row.tolist() == (true + noise).astype(np.float32).tolist()
    env = NoisyObservation(pendulum(), [0.5, 0.0, 2.0])
    assert env.observation_space == spaces.Box(
        np.array([-np.inf, -1.0, -np.inf], np.float32), np.array([np.inf, 1.0, np.inf], np.float32)
    )


def test_one_standard_deviation_counts_for_every_component_of_any_shape() -> None:
    space = spaces.Box(-1.0, 1.0, (2, 3), np.float64)
    one, six = (rows(NoisyObservation(Sampling(space), std), 0) for std in (0.25, [[0.25] * 3] * 2))
    assert np.array_equal(one, six)
    assert one[0].shape == (2, 3)
    assert one[0].dtype == np.float64
    noise = np.array(one) - np.array(rows(Sampling(space), 0))
    assert len(np.unique(noise)) == noise.size


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_an_observation_comes_late_and_before_the_first_one_there_are_zeros(delay: int) -> None:
    env = DelayedObservation(Counting(length=5), delay)
    shown = []
    for _ in range(2):  # what is on its way at the end of an episode does not arrive in the next
        observation, over = env.reset()[0], False
        shown.append(float(observation[0]))
        while not over:
            observation, reward, over, _, _ = env.step(0)
            shown.append(float(observation[0]))
    assert reward == 15  # of the last step: rewards are not delayed
    episodes = [[100 * episode + step for step in range(6)] for episode in range(2)]
    assert shown == [value for steps in episodes for value in [0] * delay + steps[: 6 - delay]]


class Reuses(Counting):
    """Gives the same array at each step, with other numbers."""

    def _observation(self) -> Any:
        self.array = getattr(self, "array", np.zeros(1, np.float32))
        self.array[:] = self.step_number + 1
        return self.array


def test_an_environment_that_reuses_its_array_is_delayed_all_the_same() -> None:
    assert [float(row[0]) for row in rows(DelayedObservation(Reuses(length=9), 2), 0, 5)] == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("space", "shown_space", "nothing"),
    [
        (spaces.Box(1, 2, (2,), np.float64), spaces.Box(0, 2, (2,), np.float64), [0.0, 0.0]),
        (spaces.Box(-2, -1, (1,), np.float32), spaces.Box(-2, 0, (1,), np.float32), [0.0]),
        (spaces.Box(0, 255, (1, 2), np.uint8), spaces.Box(0, 255, (1, 2), np.uint8), [[0, 0]]),
        (spaces.MultiBinary(2), spaces.MultiBinary(2), [0, 0]),
        (spaces.Discrete(3), spaces.Discrete(4), 3),
        (spaces.Discrete(3, start=5), spaces.Discrete(4, start=5), 8),
        (spaces.MultiDiscrete([2, 4]), spaces.MultiDiscrete([3, 5]), [2, 4]),
        (
            spaces.MultiDiscrete([2, 4], np.uint8, start=[1, 0]),
            spaces.MultiDiscrete([3, 5], np.uint8, start=[1, 0]),
            [3, 4],
        ),
    ],
    ids=str,
)
def test_each_kind_of_space_has_a_value_that_means_nothing(space: Any, shown_space: Any, nothing: Any) -> None:
    flickering = FlickeringObservation(Sampling(space), 1.0)
    delayed = DelayedObservation(Sampling(space), 1)
    shown = flickering.reset(seed=0)[0], delayed.reset(seed=0)[0]
    for env, observation in zip((flickering, delayed), shown, strict=True):
        assert env.observation_space == shown_space
        assert observation.tolist() == nothing
        assert observation.dtype == space.dtype
        assert shown_space.contains(observation)


def test_the_parts_of_a_dict_and_a_tuple_vanish_together() -> None:
    space = spaces.Dict(
        {"pair": spaces.Tuple([spaces.Discrete(2), spaces.Box(1, 2, (1,))]), "bits": spaces.MultiBinary(1)}
    )
    shown = rows(FlickeringObservation(Sampling(space), 0.5), 0, 30)
    gone = [row["pair"][0] == 2 for row in shown]
    assert 0 < sum(gone) < len(gone)
    assert gone == [float(row["pair"][1][0]) == 0 for row in shown]
    assert all(int(row["bits"][0]) == 0 for row, is_gone in zip(shown, gone, strict=True) if is_gone)


CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "all on Pendulum": ("Pendulum-v1", ALL),
    "Dict": (DictNoise, ALL[1:]),
}


def agents(case: str, *options: dict[str, Any]) -> list[AutoResetGymAgent]:
    env, wrappers = CASES[case]
    kwargs = {"max_episode_steps": 15} if isinstance(env, str) else None
    return [
        AutoResetGymAgent(env, **{"batch_size": 3, "seed": 4, "wrappers": wrappers, "kwargs": kwargs, **each})
        for each in options
    ]


@pytest.mark.parametrize("case", CASES)
def test_rows_are_the_same_from_workers_and_after_a_resume_within_an_episode(case: str) -> None:
    here, working, resumed = agents(case, {}, {"workers": 2}, {})
    actions = random_actions(here.env_spec, 60)
    before, same = (played(agent, Workspace(), actions[:40]) for agent in (here, working))
    resumed.load_run_state(copy.deepcopy(here.run_state()))
    after, other = (played(agent, Workspace(before), actions[40:]) for agent in (here, resumed))
    working.close()
    assert before["env/done"].any()
    assert 0 < before["env/timestep"][-1].max() < 14  # within an episode
    for name in before.keys():  # noqa: SIM118
        assert torch.equal(before[name], same[name]), name
        assert torch.equal(after[name], other[name]), name


@pytest.mark.parametrize("case", CASES)
def test_an_environment_shows_the_same_alone_as_beside_others(case: str) -> None:
    three, one, other_seed = agents(case, {}, {"batch_size": 1}, {"seed": 5})
    actions = random_actions(three.env_spec, 30)
    together, changed = (played(agent, Workspace(), actions) for agent in (three, other_seed))
    alone = played(one, Workspace(), [[values[:1] for values in leaves] for leaves in actions])
    for name in together.keys():  # noqa: SIM118
        assert torch.equal(together[name][:, :1], alone[name]), name
    name = three.env_spec.observations[-1].name
    assert not torch.equal(together[name], changed[name])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "+env.wrappers.x={_target_: bbrl_exp.envs.sensors.FlickeringObservation, probability: 1.5}",
            "key 'env.wrappers.x.probability' = 1.5: must be 0 to 1",
        ),
        (
            "+env.wrappers.x={_target_: bbrl_exp.envs.sensors.DelayedObservation, delay: -1}",
            "key 'env.wrappers.x.delay' = -1: must be at least 0",
        ),
        (
            "+env.wrappers.x={_target_: bbrl_exp.envs.sensors.NoisyObservation, std: [0.1, 0.2]}",
            "key 'env.wrappers.x.std' = [0.1, 0.2]: must be a finite number of at least 0, or one per component of the "
            "observation, [4]",
        ),
        (
            "+env.wrappers.x={_target_: bbrl_exp.envs.sensors.NoisyObservation, std: -0.1}",
            "key 'env.wrappers.x.std' = -0.1: must be a finite number of at least 0, or one per component of the "
            "observation, [4]",
        ),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        run(["agent=random", "env=cartpole", override])
    assert str(refused.value) == message
    assert list(tmp_path.iterdir()) == []


def test_spaces_that_do_not_fit_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigurationError) as refused:
        NoisyObservation(Sampling(spaces.Discrete(3)), 0.1)
    assert str(refused.value) == "NoisyObservation needs a Box observation of floats, found Discrete(3)"
    with pytest.raises(ConfigurationError) as refused:
        FlickeringObservation(Sampling(spaces.Dict({"said": spaces.Text(5)})))
    assert str(refused.value) == (
        "FlickeringObservation cannot show nothing in a Text; possible: Box, MultiBinary, Discrete, MultiDiscrete, and "
        "Dict and Tuple of these"
    )


def test_what_happens_behind_the_sensors_stays_as_it_is() -> None:
    plain, wrapped = pendulum(), pendulum()
    for wrapper in ALL:
        wrapped = wrapper(wrapped)
    rewards = []
    for env in (plain, wrapped):
        env.reset(seed=1)
        rewards.append([env.step(ACTION)[1] for _ in range(N_STEPS)])
    assert rewards[0] == rewards[1]
