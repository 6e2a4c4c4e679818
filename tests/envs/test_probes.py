"""The probes do what their table of true values says."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from bbrl_exp.agents import Agent, Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.envs.probes import STORIES, probe_states
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.9
DISCRETE = [f"bbrl_exp/Probe{name}-v0" for name in STORIES]
CONTINUOUS = [f"bbrl_exp/Probe{name}Continuous-v0" for name in STORIES]


def table(env_id: str) -> dict[tuple[tuple[float, float], ...], tuple[float, float | None]]:
    return {state.observations: (state.value, state.best_action) for state in probe_states(env_id, DISCOUNT)}


@pytest.mark.parametrize("env_id", DISCRETE + CONTINUOUS)
def test_gymnasium_finds_nothing_wrong_with_a_probe(env_id: str) -> None:
    check_env(gymnasium.make(env_id).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", DISCRETE + CONTINUOUS)
def test_the_best_actions_earn_the_true_values(env_id: str) -> None:
    """Plays episodes by the table: the discounted rewards of a terminated one are the value of each state in it."""
    env = gymnasium.make(env_id)
    truth, cues = table(env_id), set()
    for episode in range(8):
        observation, _ = env.reset(seed=episode)
        seen, rewards, values, over = (), [], [], False
        while not over:
            seen = (*seen, tuple(observation.tolist()))
            value, action = truth[seen if "TimeLimit" not in env_id else seen[:1]]
            chosen = np.array([action or 0.0], np.float32) if env_id in CONTINUOUS else int(action or 0)
            observation, reward, terminated, truncated, _ = env.step(chosen)
            rewards.append(reward)
            values.append(value)
            over = terminated or truncated
        future = 0.0 if terminated else values[-1]
        for step in range(len(rewards)):
            ahead = rewards[step:]
            worth = sum(DISCOUNT**k * reward for k, reward in enumerate(ahead)) + DISCOUNT ** len(ahead) * future
            assert worth == pytest.approx(values[step])
        cues.add(seen[0][0])
    assert cues == {states[0][0] for states in truth}


def test_the_values_are_those_of_the_definition() -> None:
    at_rest = (0.0, 0.0)
    assert table("bbrl_exp/ProbeConstantReward-v0") == {(at_rest,): (1, None)}
    assert table("bbrl_exp/ProbeObservation-v0") == {((-1, 0),): (-1, None), ((1, 0),): (1, None)}
    assert table("bbrl_exp/ProbeDelayedReward-v0") == {(at_rest,): (0.9, None), (at_rest, (0, 1)): (1, None)}
    assert table("bbrl_exp/ProbeAction-v0") == {(at_rest,): (1, 1)}
    assert table("bbrl_exp/ProbeActionContinuous-v0") == {(at_rest,): (1, 0.5)}
    assert table("bbrl_exp/ProbeObservationAction-v0") == {((-1, 0),): (1, 0), ((1, 0),): (1, 1)}
    assert table("bbrl_exp/ProbeObservationActionContinuous-v0") == {((-1, 0),): (1, -0.5), ((1, 0),): (1, 0.5)}
    assert table("bbrl_exp/ProbeTimeLimit-v0") == {(at_rest,): (pytest.approx(10), None)}
    assert table("bbrl_exp/ProbeMemory-v0") == {
        ((cue, 0.0), (0.0, 0.5), (0.0, 1.0))[: step + 1]: (
            pytest.approx(DISCOUNT ** (2 - step)),
            (cue + 1) / 2 if step == 2 else None,
        )
        for cue in (-1.0, 1.0)
        for step in range(3)
    }


@pytest.mark.parametrize(("action", "reward"), [(0, 0.0), (1, 1.0)])
def test_the_wrong_one_of_two_actions_pays_nothing(action: int, reward: float) -> None:
    env = gymnasium.make("bbrl_exp/ProbeAction-v0")
    env.reset(seed=0)
    assert env.step(action)[1] == reward


@pytest.mark.parametrize(("action", "reward"), [(0.5, 1.0), (0.0, 0.75), (-0.5, 0.0), (1.0, 0.75)])
def test_a_continuous_action_pays_less_the_further_it_is_from_the_right_one(action: float, reward: float) -> None:
    env = gymnasium.make("bbrl_exp/ProbeActionContinuous-v0")
    env.reset(seed=0)
    assert env.step(np.array([action], np.float32))[1] == reward


def test_the_cue_of_the_memory_probe_alone_tells_the_right_action() -> None:
    states = [state for state in probe_states("bbrl_exp/ProbeMemory-v0", DISCOUNT) if len(state.observations) == 3]
    assert [state.best_action for state in states] == [0, 1]
    assert states[0].observations[1:] == states[1].observations[1:]


def test_an_id_of_another_environment_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'bbrl_exp/ProbeMemory-v0'"):
        probe_states("bbrl_exp/ProbeMemry-v0", DISCOUNT)


class AlwaysOne(Agent):
    """The action 1, everywhere."""

    def forward(self, t: int, **kwargs: object) -> None:
        self.set(("action", t), torch.ones(2, dtype=torch.int64))


def ends(env_id: str, name: str) -> list[bool]:
    workspace = Workspace()
    TemporalAgent(Agents(AutoResetGymAgent(env_id, 2), AlwaysOne()))(workspace, n_steps=7)
    assert torch.equal(workspace[name][:, 0], workspace[name][:, 1])
    return workspace[name][:, 0].tolist()


def test_the_workspace_shows_how_each_probe_ends() -> None:
    assert ends("bbrl_exp/ProbeTimeLimit-v0", "env/truncated") == [False] * 5 + [True, False]
    assert not any(ends("bbrl_exp/ProbeTimeLimit-v0", "env/terminated"))
    both = [False, False, True, False, False, True, False]
    assert ends("bbrl_exp/ProbeDelayedReward-v0", "env/terminated") == both
    assert ends("bbrl_exp/ProbeDelayedReward-v0", "env/truncated") == both
    assert ends("bbrl_exp/ProbeAction-v0", "env/terminated") == [False, True] * 3 + [False]
    assert not any(ends("bbrl_exp/ProbeAction-v0", "env/truncated"))


def test_a_worker_process_makes_a_probe_too() -> None:
    agent = AutoResetGymAgent("bbrl_exp/ProbeConstantReward-v0", 2, workers=1)
    workspace = Workspace()
    TemporalAgent(Agents(agent, AlwaysOne()))(workspace, n_steps=2)
    assert workspace["env/reward"].tolist() == [[0, 0], [1, 1]]
    agent.close()
