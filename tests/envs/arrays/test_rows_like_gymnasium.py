"""Array environments show, for the same states and actions, the rows that gymnasium's own environments show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from cases import BACKENDS, IDS, KWARGS, SEEN, made, rows, step

from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.arrays.backends import ArrayBackend, TorchBackend
from bbrl_exp.envs.contract import check_environment_agent
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.envs.spec import SpaceMismatchError
from bbrl_exp.envs.wrappers import MaskObservation
from bbrl_exp.errors import NonFiniteError
from bbrl_exp.workspace import Workspace

N_STEPS = 180
# What gymnasium shows of a state that it is put to; a maze's first row has its cue.
FIRST_OBSERVATION: dict[str, Callable[[Any], Any]] = {
    "CartPole-v1": lambda env: env.state,
    "MountainCar-v0": lambda env: env.state,
    "MountainCarContinuous-v0": lambda env: env.state,
    "Pendulum-v1": lambda env: env._get_obs(),
}


@pytest.mark.parametrize(
    ("backend", "env_id"), [*(("array", env_id) for env_id in IDS), ("torch", "CartPole-v1"), ("torch", IDS[-1])]
)
def test_the_contract_of_environment_agents_is_kept(backend: str, env_id: str) -> None:
    check_environment_agent(lambda size, seed: made(backend, env_id, size, seed), 160)


def compared_with_gymnasium(
    backend: str, env_id: str, compare: Callable[[Any, Any, str], None], **options: Any
) -> None:
    """Plays, and lets gymnasium take every step from the same state with the same action."""
    agent, workspace, generator = made(backend, env_id, 2, seed=3, **options), Workspace(), np.random.default_rng(1)
    states = []
    for _ in range(N_STEPS):
        step(agent, workspace, generator)
        states.append(agent.run_state()["states"].numpy().copy())
    found = {name: workspace[f"env/{name}"].numpy() for name in SEEN}
    clips = agent.env_spec.clips_actions and agent.env_spec.actions[0].kind == "box"
    low, high = agent.env_spec.actions[0].low, agent.env_spec.actions[0].high
    ends = {"terminated": 0, "truncated": 0}
    for i in range(agent.batch_size):
        env: Any = gymnasium.make(env_id, **KWARGS[env_id])
        for t in range(N_STEPS):
            if workspace["env/initial_state"][t, i]:
                env.reset(seed=0)
                agent.task.show_state(env.unwrapped, states[t][i])
                if env_id == "Acrobot-v1":  # whose first cosines are of float32 numbers, computed in float32
                    env.unwrapped.state = np.float32(states[t][i])
                    np.testing.assert_array_max_ulp(found["env_obs"][t, i], env.unwrapped._get_ob(), maxulp=1)
                elif (shows := FIRST_OBSERVATION.get(env_id)) is not None:
                    compare(found["env_obs"][t, i], np.asarray(shows(env.unwrapped), np.float32), "first observation")
                continue
            if backend == "torch":
                agent.task.show_state(env.unwrapped, states[t - 1][i])
            action = workspace["action"][t - 1, i].numpy()
            shown = env.step(np.clip(action, low, high) if clips else action)[:4]
            for name, expected in zip(SEEN, shown, strict=True):
                value = np.asarray(expected, found[name].dtype)
                compare(found[name][t, i], value, f"{name} of environment {i} at t={t}")
                if name in ends:
                    ends[name] += bool(value)
    assert ends["truncated"] or "TMaze" in env_id, "no episode has met its limit"
    assert ends["terminated"] or env_id in ("Pendulum-v1", "Acrobot-v1"), "no episode has met its end"


@pytest.mark.parametrize("env_id", IDS)
def test_rows_of_numba_are_those_of_gymnasium_bit_for_bit(env_id: str) -> None:
    compared_with_gymnasium("array", env_id, np.testing.assert_array_equal)


@pytest.mark.parametrize("env_id", IDS)
def test_rows_of_torch_are_those_of_gymnasium_within_1e_6_of_each_step(env_id: str) -> None:
    def compare(found: Any, expected: Any, what: str) -> None:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=what)

    compared_with_gymnasium("torch", env_id, compare)


def test_actions_that_are_not_clipped_move_a_car_as_gymnasium_does() -> None:
    compared_with_gymnasium("array", "MountainCarContinuous-v0", np.testing.assert_array_equal, clip_actions=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_variables_are_those_of_the_gym_backend(backend: str) -> None:
    for env_id in IDS:
        agent = made(backend, env_id)
        keys = {"is_success": "bool"} if "TMaze" in env_id else None
        other = AutoResetGymAgent(env_id, 4, kwargs=KWARGS[env_id], info_keys=keys)
        assert agent.layout == other.layout
        assert agent.env_spec.max_episode_steps == other.env_spec.max_episode_steps
        for ours, theirs in zip(agent.env_spec.observations, other.env_spec.observations, strict=True):
            np.testing.assert_array_equal(ours.low, theirs.low)
            np.testing.assert_array_equal(ours.high, theirs.high)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_masked_environment_shows_the_other_components_of_the_same_rows(backend: str) -> None:
    whole, part = (
        rows(made(backend, "CartPole-v1", wrappers=wrappers), 60)
        for wrappers in ([], [lambda env: MaskObservation(env, [1]), lambda env: MaskObservation(env, [0, 2])])
    )
    assert torch.equal(part["env/env_obs"], whole["env/env_obs"][:, :, [2]])
    assert torch.equal(part["env/done"], whole["env/done"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_success_is_recorded_in_the_row_of_the_right_turn(backend: str) -> None:
    workspace = rows(made(backend, "bbrl_exp/TMaze-v0"), 200)
    is_success = workspace["env/info/is_success"]
    assert torch.equal(is_success, workspace["env/terminated"] & (workspace["env/reward"] == 1))
    assert bool(is_success.any())


def test_other_numbers_of_a_task_are_those_of_its_keyword_arguments() -> None:
    agent = ArrayBackend("CartPole-v1", 1, kwargs={"sutton_barto_reward": True, "max_episode_steps": 7})
    workspace = rows(agent, 100)
    ends = workspace["env/terminated"][:, 0]
    assert (workspace["env/reward"][ends] == -1).all()
    assert not workspace["env/reward"][~ends].any()
    assert agent.env_spec.max_episode_steps == int(workspace["env/timestep"].max()) == 7
    assert ArrayBackend("Pendulum-v1", 1, kwargs={"g": 5.0}).task.parameters[3] == 3 * 5.0 / 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_actions_that_no_environment_accepts_are_refused_as_by_the_gym_backend(backend: str) -> None:
    for env_id, action, message in (
        ("CartPole-v1", torch.tensor([0, 1, 2, 0]), r"'action' at t=0, environment 2: expected 0 … 1, found 2"),
        ("CartPole-v1", torch.zeros(4), r"'action' at t=0: the environments expect int64 \[4\], found float32 \[4\]"),
        ("Pendulum-v1", torch.tensor([[0.0], [torch.nan], [0.0], [0.0]]), r"'action' from environment 1 at t=0: nan"),
    ):
        messages = []
        for agent in (made(backend, env_id), AutoResetGymAgent(env_id, 4)):
            workspace = Workspace()
            agent(workspace, t=0)
            workspace.set("action", 0, action)
            with pytest.raises((SpaceMismatchError, NonFiniteError)) as error:
                agent(workspace, t=1)
            messages.append(str(error.value))
            assert workspace.n_steps("env/env_obs") == 1
        assert messages[0] == messages[1], message


@pytest.mark.parametrize("kwargs", [{"corridor_length": 5, "max_episode_steps": 30}, {"max_episode_steps": 4}, {}])
def test_of_two_time_limits_the_lower_one_ends_episodes_as_in_gymnasium(kwargs: dict[str, Any]) -> None:
    ends = []
    for kind in (AutoResetGymAgent, ArrayBackend, TorchBackend):
        agent, workspace = kind("bbrl_exp/TMaze-v0", 1, kwargs=kwargs), Workspace()
        for t in range(45):
            agent(workspace, t=t)
            workspace.set("action", t, torch.tensor([3]))
        ends.append(workspace["env/truncated"][:, 0].nonzero()[:, 0].tolist())
    assert ends[0] == ends[1] == ends[2]
    expected = min(2 * (kwargs.get("corridor_length", 20) + 1), kwargs.get("max_episode_steps", 100))
    assert ends[1][0] == agent.env_spec.max_episode_steps == expected


def test_the_loop_is_compiled_once_whatever_holds_the_actions() -> None:
    agent: Any = made("array", "CartPole-v1")
    rows(agent, 2)
    compiled = len(agent._loop.signatures)
    for dtype, is_on_cpu in ((torch.int32, True), (torch.int64, False)):
        agent.is_on_cpu, workspace = is_on_cpu, Workspace()
        for t in range(2):
            agent(workspace, t=t)
            workspace.set("action", t, torch.ones(4, dtype=dtype))
    assert len(agent._loop.signatures) == compiled


def test_integers_of_another_size_are_accepted_as_actions() -> None:
    for backend in BACKENDS:
        agent, workspace = made(backend, "CartPole-v1"), Workspace()
        agent(workspace, t=0)
        workspace.set("action", 0, torch.ones(4, dtype=torch.int32))
        agent(workspace, t=1)
        assert (workspace["env/env_obs"][1, :, 1] > workspace["env/env_obs"][0, :, 1]).all()


def test_a_part_of_the_batch_shows_the_rows_of_that_part() -> None:
    for kind in (ArrayBackend, TorchBackend):
        whole = Workspace()
        kind("CartPole-v1", 5, 7)(whole, t=0)
        part = Workspace()
        kind("CartPole-v1", 5, 7).for_slice(BatchSlice(2, 3, 5))(part, t=0)
        assert torch.equal(part["env/env_obs"], whole["env/env_obs"][:, 2:])


@pytest.mark.parametrize("env_id", IDS)
def test_pictures_are_gymnasium_s(env_id: str) -> None:
    agent = made("array", env_id, 2)
    workspace = rows(agent, 4)
    env: Any = gymnasium.make(env_id, render_mode="rgb_array", **KWARGS[env_id])
    env.reset(seed=0)
    agent.task.show_state(env.unwrapped, agent.run_state()["states"].numpy()[1])
    np.testing.assert_array_equal(agent.with_frames().frame(1), env.render())
    assert workspace.batch_size() == 2
