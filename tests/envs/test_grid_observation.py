"""What MiniGrid shows is a grid of categories and a direction; its text is left out."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.envs.wrappers import GridObservation
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace

CELLS = np.arange(27, dtype=np.uint8).reshape(3, 3, 3) % 4


class Room(gymnasium.Env):  # type: ignore[type-arg]
    """Shows a grid as MiniGrid does."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Dict(
        image=spaces.Box(0, 255, (3, 3, 3), np.uint8), direction=spaces.Discrete(4), mission=spaces.Text(9)
    )

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        return {"image": CELLS, "direction": 2, "mission": "go there"}, {}


def test_a_grid_is_made_of_categories_and_a_text_is_left_out() -> None:
    agent = AutoResetGymAgent(Room, 2, wrappers=[GridObservation])
    direction, image = sorted(agent.env_spec.observations, key=lambda leaf: leaf.name)
    assert (direction.name, direction.kind) == ("env/env_obs/direction", "discrete")
    assert (image.kind, image.shape, image.dtype) == ("multi_discrete", (3, 3, 3), "uint8")
    assert image.counts is not None
    assert image.counts[2, 1].tolist() == [11, 6, 4]
    agent(workspace := Workspace(), t=0)
    assert (workspace["env/env_obs/image"][0, 1].numpy() == CELLS).all()
    assert workspace["env/env_obs/direction"].tolist() == [[2, 2]]
    assert not [name for name in workspace.keys() if "mission" in name]  # noqa: SIM118


def test_other_numbers_of_categories_can_be_given() -> None:
    space = GridObservation(Room(), counts=[4, 4, 5]).observation_space
    assert isinstance(space, spaces.Dict)
    assert isinstance(space["image"], spaces.MultiDiscrete)
    assert space["image"].nvec[0, 0].tolist() == [4, 4, 5]


def test_what_shows_no_grid_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        GridObservation(Room(), counts=[4, 4])
    assert str(caught.value) == "counts=[4, 4]: must be 3 numbers, one per component"
    with pytest.raises(ConfigurationError) as caught:
        GridObservation(gymnasium.make("FrozenLake-v1"))
    assert str(caught.value) == "GridObservation needs a Dict observation with an image [H, W, K], found Discrete(16)"


@pytest.mark.parametrize("env_id", ["MiniGrid-DoorKey-5x5-v0", "BabyAI-GoToObj-v0"])
def test_the_ids_of_minigrid_show_a_grid_without_being_allowed(env_id: str) -> None:
    pytest.importorskip("minigrid")
    agent = AutoResetGymAgent(env_id, 1, wrappers=[GridObservation])
    assert {leaf.name: leaf.shape for leaf in agent.env_spec.observations} == {
        "env/env_obs/direction": (),
        "env/env_obs/image": (7, 7, 3),
    }
