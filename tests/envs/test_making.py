"""How environments are made, and what is said when they cannot be."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
from toy_envs import Counting, NeedsBox2D

from bbrl_exp.envs import AutoResetGymAgent, MaskObservation
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace


@pytest.fixture
def missing_box2d():
    gymnasium.register("ToyNeedsBox2D-v0", entry_point=NeedsBox2D)
    yield "ToyNeedsBox2D-v0"
    del gymnasium.registry["ToyNeedsBox2D-v0"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_extra_is_named_with_its_install_command(missing_box2d, workers):
    with pytest.raises(ConfigurationError, match=r'pip install "bbrl_exp\[box2d\]"'):
        AutoResetGymAgent(missing_box2d, 1, workers=workers)


def test_a_missing_package_without_an_extra_is_named():
    def needs_a_module():
        import a_module_that_is_not_there  # noqa: F401

    with pytest.raises(ConfigurationError, match="a_module_that_is_not_there"):
        AutoResetGymAgent(needs_a_module, 1)


def test_an_unknown_id_names_the_nearest_known_one():
    with pytest.raises(ConfigurationError, match=r"'CartPoel-v1'.*did you mean 'CartPole-v1'"):
        AutoResetGymAgent("CartPoel-v1", 1)


def test_an_id_that_imports_a_module_is_refused():
    with pytest.raises(ConfigurationError, match="toy_envs:Counting-v0"):
        AutoResetGymAgent("toy_envs:Counting-v0", 1)


def test_an_argument_that_the_environment_does_not_know_is_named():
    with pytest.raises(ConfigurationError, match="gravitation"):
        AutoResetGymAgent("CartPole-v1", 1, kwargs={"gravitation": 3})


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        {"batch_size": 2.0},
        {"batch_size": True},
        {"seed": -1},
        {"workers": -1},
        {"workers": 3},
        {"workers": 1.5},
        {"worker_timeout": 0},
        {"stepping": "worker"},
        {"stepping": "workers"},
        {"stepping": "scalar", "workers": 1},
        {"stepping": "vectorized", "workers": 1},
        {"stepping": "vectorized"},
        {"wrappers": [3]},
    ],
    ids=str,
)
def test_arguments_that_are_not_possible_are_refused(arguments):
    with pytest.raises(ConfigurationError):
        AutoResetGymAgent(**{"env": Counting, "batch_size": 2, **arguments})


def test_vectorized_takes_no_wrappers():
    with pytest.raises(ConfigurationError, match="wrappers"):
        AutoResetGymAgent("CartPole-v1", 2, stepping="vectorized", wrappers=[partial(MaskObservation, hidden=[1])])


def test_what_is_no_environment_is_refused():
    with pytest.raises(ConfigurationError, match=r"expected a gymnasium.Env, found int"):
        AutoResetGymAgent(lambda: 3, 1)


def test_environments_of_different_spaces_are_refused():
    names = iter(["CartPole-v1", "Pendulum-v1"])
    with pytest.raises(ConfigurationError, match="environment 1 of"):
        AutoResetGymAgent(lambda: gymnasium.make(next(names)), 2)


def test_wrappers_are_applied_in_their_order():
    wrappers = [partial(MaskObservation, hidden=[1, 3]), partial(MaskObservation, hidden=[0])]
    agent = AutoResetGymAgent("CartPole-v1", 2, seed=4, wrappers=wrappers)
    whole = AutoResetGymAgent("CartPole-v1", 2, seed=4)
    masked, unmasked = Workspace(), Workspace()
    agent(masked, t=0)
    whole(unmasked, t=0)
    assert masked["env/env_obs"].equal(unmasked["env/env_obs"][:, :, [2]])
    assert agent.env_spec.observations[0].shape == (1,)
    assert agent.env_spec.max_episode_steps == 500


def test_a_masked_pendulum_hides_its_velocity():
    env = MaskObservation(gymnasium.make("Pendulum-v1"), hidden=[2])
    observation, _ = env.reset(seed=0)
    assert observation.shape == (2,)
    assert np.hypot(*observation) == pytest.approx(1)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("hidden", [[4], [-1], [0, 1, 2, 3]])
def test_a_mask_outside_of_the_observation_is_refused(hidden):
    with pytest.raises(ConfigurationError, match="hidden="):
        MaskObservation(gymnasium.make("CartPole-v1"), hidden=hidden)


def test_a_mask_needs_a_vector():
    with pytest.raises(ConfigurationError, match="Box observation"):
        MaskObservation(gymnasium.make("Taxi-v4"), hidden=[0])


def test_the_spec_tells_what_the_environments_are():
    spec = AutoResetGymAgent("Pendulum-v1", 3).env_spec
    assert (spec.env_id, spec.batch_size, spec.max_episode_steps) == ("Pendulum-v1", 3, 200)
    (action,) = spec.actions
    assert (action.name, action.kind, action.shape, action.dtype) == ("action", "box", (1,), "float32")
    assert action.is_bounded
    assert float(action.high[0]) == 2


def test_a_closed_agent_says_so():
    agent = AutoResetGymAgent("CartPole-v1", 1)
    agent.close()
    agent.close()
    with pytest.raises(Exception, match="closed"):
        agent(Workspace(), t=0)


def test_a_stand_in_for_the_graph_check_may_have_another_batch_size():
    workspace = Workspace()
    AutoResetGymAgent(Counting, 1).dry_copy(5)(workspace, t=0)
    assert workspace.batch_size() == 5
    assert workspace["env/env_obs"].shape == (1, 5, 1)


def test_an_environment_agent_has_no_state_of_its_own_for_torch():
    assert list(AutoResetGymAgent(Counting, 1).state_dict()) == []
