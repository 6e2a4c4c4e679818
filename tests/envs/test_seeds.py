"""Each environment's stream depends on the seed, the role, its index and its episode, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_envs import DictNoise, OldGenerators

from bbrl_exp.envs import AutoResetGymAgent, NoAutoResetGymAgent
from bbrl_exp.workspace import Workspace


def record(agent, n_steps=150, workspace=None):
    """Random actions, of which environment i gets the same ones in every batch."""
    workspace = Workspace() if workspace is None else workspace
    size = agent.batch_size
    choices = [np.random.default_rng(i) for i in range(size)]
    for t in range(n_steps):
        agent(workspace, t=t)
        if agent.reads == ("action",):
            workspace.set("action", t, torch.tensor([int(c.integers(2)) for c in choices]))
        else:
            workspace.set("action/grip", t, torch.tensor([int(c.integers(5, 8)) for c in choices]))
            moves = np.stack([c.normal(size=2) for c in choices]).astype(np.float32)
            workspace.set("action/move", t, torch.from_numpy(moves))
    agent.close()
    return workspace


def same(first, second):
    assert list(first.keys()) == list(second.keys())
    return all(first[name].equal(second[name]) for name in list(first.keys()))


@pytest.mark.parametrize("kind", [AutoResetGymAgent, NoAutoResetGymAgent])
@pytest.mark.parametrize("env", ["CartPole-v1", DictNoise])
def test_workers_give_the_rows_of_scalar_to_the_bit(env, kind):
    info_keys = ["luck"] if env is DictNoise else []
    scalar = record(kind(env, 3, seed=1, info_keys=info_keys))
    for workers in (1, 2, 3):
        assert same(scalar, record(kind(env, 3, seed=1, workers=workers, info_keys=info_keys)))


def test_the_stream_of_an_environment_does_not_depend_on_the_batch_size():
    small = record(AutoResetGymAgent("CartPole-v1", 8))
    large = record(AutoResetGymAgent("CartPole-v1", 16))
    for name in list(small.keys()):
        assert small[name].equal(large[name][:, :8])


def test_seeds_and_roles_have_streams_of_their_own():
    first_rows = {
        (seed, role): record(AutoResetGymAgent("CartPole-v1", 2, seed=seed, role=role), 1)["env/env_obs"]
        for seed in (0, 1)
        for role in ("train", "eval")
    }
    values = torch.cat([rows.flatten() for rows in first_rows.values()])
    assert len(values.unique()) == len(values) == 32


@pytest.mark.parametrize("stepping", [{}, {"workers": 1}, {"stepping": "vectorized"}])
def test_a_second_recording_does_not_replay_the_first_and_seeding_again_does(stepping):
    agent = AutoResetGymAgent("CartPole-v1", 2, seed=5, **stepping)
    workspace = Workspace()
    agent(workspace, t=0)
    first = workspace["env/env_obs"].clone()
    agent(workspace, t=0)
    second = workspace["env/env_obs"].clone()
    agent.seed(5)
    agent(workspace, t=0)
    assert not second.equal(first)
    assert workspace["env/env_obs"].equal(first)
    agent.seed(6)
    agent(workspace, t=0)
    assert not workspace["env/env_obs"].equal(first)
    agent.close()


def test_vectorized_repeats_itself_by_seed():
    first, again, other = (
        record(AutoResetGymAgent("CartPole-v1", 4, seed=s, stepping="vectorized")) for s in (0, 0, 1)
    )
    assert same(first, again)
    assert not first["env/env_obs"].equal(other["env/env_obs"])


def cart_pole_step(state, action):
    """The equations of the cart and the pole, integrated by explicit Euler with 0.02 s."""
    x, velocity, angle, angular_velocity = state.T.astype(np.float64)
    force = np.where(action == 1, 10.0, -10.0)
    pressure = (force + 0.05 * angular_velocity**2 * np.sin(angle)) / 1.1
    angular = (9.8 * np.sin(angle) - np.cos(angle) * pressure) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
    linear = pressure - 0.05 * angular * np.cos(angle) / 1.1
    return np.stack(
        [
            x + 0.02 * velocity,
            velocity + 0.02 * linear,
            angle + 0.02 * angular_velocity,
            angular_velocity + 0.02 * angular,
        ],
        axis=1,
    )


@pytest.mark.parametrize("stepping", ["scalar", "vectorized"])
def test_recorded_rows_follow_the_equations_of_motion(stepping):
    workspace = record(AutoResetGymAgent("CartPole-v1", 4, stepping=stepping), 120)
    observations, actions = workspace["env/env_obs"].numpy(), workspace["action"].numpy()
    done, begins = workspace["env/done"].numpy(), workspace["env/initial_state"].numpy()
    assert done.sum() > 8
    for t in range(119):
        moved = ~done[t]
        expected = cart_pole_step(observations[t], actions[t])
        np.testing.assert_allclose(observations[t + 1][moved], expected[moved], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(begins[t + 1], done[t])
    np.testing.assert_array_equal(workspace["env/reward"].numpy(), ~begins)
    assert (np.abs(observations[begins]) <= 0.05).all()
    outside = (np.abs(observations[..., 0]) > 2.4) | (np.abs(observations[..., 2]) > 12 * 2 * np.pi / 360)
    np.testing.assert_array_equal(workspace["env/terminated"].numpy(), outside)


def test_vectorized_counts_and_ends_as_scalar_does():
    workspace = record(AutoResetGymAgent("CartPole-v1", 4, stepping="vectorized", kwargs={"max_episode_steps": 9}), 60)
    steps = workspace["env/timestep"]
    done, begins = workspace["env/done"], workspace["env/initial_state"]
    expected = torch.zeros(4, dtype=torch.int64)
    for t in range(1, 60):
        expected = torch.where(done[t - 1], 0, expected + 1)
        assert steps[t].equal(expected)
    assert workspace["env/cumulated_reward"].equal(steps.float())
    assert begins.equal(steps == 0)
    assert workspace["env/truncated"].equal(steps == 9)


def test_vectorized_freezes_finished_environments_without_auto_reset():
    workspace = record(NoAutoResetGymAgent("CartPole-v1", 4, stepping="vectorized"), 120)
    done = workspace["env/done"]
    assert done[-1].all()
    for i in range(4):
        end = int(done[:, i].float().argmax())
        assert done[end:, i].all()
        for name in ("env/env_obs", "env/timestep", "env/cumulated_reward", "env/terminated", "env/truncated"):
            assert workspace[name][end:, i].eq(workspace[name][end, i]).all(), name
        assert workspace["env/reward"][:, i].tolist() == [0.0] + [1.0] * end + [0.0] * (119 - end)
    assert workspace["env/initial_state"].sum() == 4


@pytest.mark.parametrize("role", ["train", "eval"])
def test_generators_of_32_bits_take_the_seeds_of_episodes(role):
    rows = record(AutoResetGymAgent(OldGenerators, 4, role=role), 40)["env/env_obs"]
    assert len(rows.unique()) == rows.numel()
