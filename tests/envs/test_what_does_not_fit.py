"""What an environment gives and did not declare is one line, for any number of environments, wherever they live."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from toy_envs import Gives

from bbrl_exp.envs import AutoResetGymAgent, NoAutoResetGymAgent
from bbrl_exp.envs.spec import SpaceMismatchError
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace

# Up to eight environments have their book-keeping in Python numbers, more in arrays.
FEW, MANY = 4, 16
BOX = {"space": spaces.Box(-1, 1, (2,), np.float32), "fits": np.zeros(2, np.float32)}
BYTES = {"space": spaces.Box(0, 255, (2,), np.uint8), "fits": np.zeros(2, np.uint8)}
MULTI = {"space": spaces.MultiDiscrete([3, 4]), "fits": np.array([2, 3])}
BINARY = {"space": spaces.MultiBinary(2), "fits": np.array([0, 1], np.int8)}
PAIR = {"space": spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))), "fits": (1, 2)}
NESTED = {"space": spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)})}), "fits": {"a": {"b": 1}}}


def unroll(agent: AutoResetGymAgent | NoAutoResetGymAgent, n_steps: int = 4) -> Workspace:
    workspace = Workspace()
    for t in range(n_steps):
        agent(workspace, t=t)
        workspace.set("action", t, torch.zeros(agent.batch_size, dtype=torch.int64))
    return workspace


def message_of(batch_size: int, workers: int = 0, **kwargs: Any) -> str:
    agent = AutoResetGymAgent(Gives, batch_size, workers=workers, kwargs=kwargs)
    with pytest.raises(SpaceMismatchError) as caught:
        unroll(agent)
    agent.close()
    return str(caught.value)


@pytest.mark.parametrize("batch_size", [FEW, MANY])
@pytest.mark.parametrize(
    ("kwargs", "name", "said"),
    [
        ({"observation": 4}, "env/env_obs", "expected 0 … 3, found 4"),
        ({"observation": -1}, "env/env_obs", "expected 0 … 3, found -1"),
        ({"observation": 2**62}, "env/env_obs", f"expected 0 … 3, found {2**62}"),
        ({"space": spaces.Discrete(3, start=5), "fits": 5, "observation": 8}, "env/env_obs", "expected 5 … 7, found 8"),
        ({**MULTI, "observation": np.array([2, 4])}, "env/env_obs", "expected 0 … 3, found 4"),
        ({**BINARY, "observation": np.array([2, 1], np.int8)}, "env/env_obs", "expected 0 … 1, found 2"),
        ({"observation": "1"}, "env/env_obs", "expected int64, found '1' (str)"),
        ({"observation": None}, "env/env_obs", "expected int64, found None (NoneType)"),
        ({"observation": 0.5}, "env/env_obs", "expected int64, found float64 0.5"),
        ({**BOX, "observation": np.zeros(3)}, "env/env_obs", "expected shape (2,), found shape (3,)"),
        ({**BOX, "observation": [[1], [2, 3]]}, "env/env_obs", "expected float32 [2], found [[1], [2, 3]] (list)"),
        ({**BOX, "observation": ["a", "b"]}, "env/env_obs", "expected float32, found ['a', 'b'] (list)"),
        (
            {**BOX, "observation": np.zeros(2, complex)},
            "env/env_obs",
            "expected float32, found array([0.+0.j, 0.+0.j]) (ndarray)",
        ),
        ({**BYTES, "observation": np.array([1, 256])}, "env/env_obs", "expected uint8, found int64 [1, 256]"),
        ({**BYTES, "observation": np.array([0.0, np.nan])}, "env/env_obs", "expected uint8, found float64 [0.0, nan]"),
        ({**PAIR, "observation": (1,)}, "env/env_obs", "expected a tuple of 2, found tuple of 1"),
        ({**PAIR, "observation": (1, 2, 3)}, "env/env_obs", "expected a tuple of 2, found tuple of 3"),
        ({**PAIR, "observation": 1}, "env/env_obs", "expected a tuple of 2, found int"),
        ({**PAIR, "observation": (1, 3)}, "env/env_obs/1", "expected 0 … 2, found 3"),
        (
            {**NESTED, "observation": {"a": {"c": 1}}},
            "env/env_obs/a",
            "a dict with the keys b, found dict with the keys c",
        ),
        ({**NESTED, "observation": {"a": 1}}, "env/env_obs/a", "expected a dict with the keys b, found int"),
        ({"reward": "1"}, "env/reward", "expected one number or bool, found '1' (str)"),
        ({"reward": None}, "env/reward", "expected one number or bool, found None (NoneType)"),
        ({"reward": np.ones(1)}, "env/reward", "expected one number or bool, found array([1.]) (ndarray)"),
        ({"reward": 1j}, "env/reward", "expected one number or bool, found 1j (complex)"),
        ({"terminated": "no"}, "env/terminated", "expected one number or bool, found 'no' (str)"),
        ({"terminated": None}, "env/terminated", "expected one number or bool, found None (NoneType)"),
        ({"truncated": [False]}, "env/truncated", "expected one number or bool, found [False] (list)"),
    ],
)
def test_it_names_environment_episode_row_value_and_what_is_possible(
    batch_size: int, kwargs: dict[str, Any], name: str, said: str
) -> None:
    message = message_of(batch_size, **kwargs)
    assert message.startswith(f"'{name}' from environment 0, episode 0, at t=2: expected ")
    assert message.endswith(said)
    assert "\n" not in message


@pytest.mark.parametrize("kwargs", [{"observation": 4}, {**PAIR, "observation": (1,)}, {"reward": "1"}], ids=str)
def test_a_worker_says_the_same(kwargs: dict[str, Any]) -> None:
    assert message_of(FEW, workers=1, **kwargs) == message_of(FEW, **kwargs)


def test_the_environment_and_the_episode_are_counted_in_the_whole_batch() -> None:
    made: list[int] = []

    def third_one_is_wrong() -> gymnasium.Env:
        made.append(1)
        return Gives(observation=9) if len(made) % 3 == 0 else Gives()

    agent = AutoResetGymAgent(third_one_is_wrong, 3, first=10)
    unroll(agent, 2)
    with pytest.raises(SpaceMismatchError, match="from environment 12, episode 1, at t=2: expected 0 … 3, found 9"):
        unroll(agent)


@pytest.mark.parametrize("batch_size", [FEW, MANY])
@pytest.mark.parametrize(
    ("given", "reward"),
    [
        (True, 1.0),
        (3, 3.0),
        (np.float32(0.1), np.float32(0.1)),
        (np.int8(-2), -2.0),
        (np.array(0.5), 0.5),
        (torch.tensor(2.5), 2.5),
    ],
    ids=repr,
)
def test_every_number_is_a_reward(batch_size: int, given: Any, reward: float) -> None:
    agent = AutoResetGymAgent(Gives, batch_size, kwargs={"reward": given})
    assert unroll(agent)["env/reward"][2].tolist() == [pytest.approx(float(reward), abs=0)] * batch_size
    agent.close()


@pytest.mark.parametrize("batch_size", [FEW, MANY])
@pytest.mark.parametrize(("given", "ends"), [(np.True_, True), (np.False_, False), (1, True), (0, False), (0.0, False)])
@pytest.mark.parametrize("name", ["terminated", "truncated"])
def test_every_number_says_whether_an_episode_ends(batch_size: int, name: str, given: Any, ends: bool) -> None:
    agent = NoAutoResetGymAgent(Gives, batch_size, kwargs={name: given})
    rows = unroll(agent)
    agent.close()
    assert rows[f"env/{name}"][2].tolist() == [ends] * batch_size
    assert rows["env/done"].sum() == (2 * batch_size if ends else 0)


class GivesVector(VectorEnv):
    """The same for a whole batch at once."""

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.num_envs = num_envs
        self.single = Gives(**kwargs)
        self.single_observation_space, self.single_action_space = self.single.observation_space, spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.step_number = 0
        return np.zeros(self.num_envs, np.int64), {}

    def step(self, actions: Any) -> tuple[Any, ...]:
        self.step_number += 1
        count = self.num_envs
        names = ("observation", "reward", "terminated", "truncated", "info")
        fits = np.zeros(count, np.int64), np.ones(count), *np.zeros((2, count), np.bool_), {}
        found = dict(zip(names, fits, strict=True))
        return tuple((found | self.single.given).values()) if self.step_number == 2 else tuple(found.values())


@pytest.fixture(scope="module")
def vector_id() -> Any:
    gymnasium.register("Gives-v0", entry_point=Gives, vector_entry_point=GivesVector)
    yield "Gives-v0"
    del gymnasium.registry["Gives-v0"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"observation": np.array([0, 1, 4])},
            "'env/env_obs' from environment 2, episode 0, at t=2: expected 0 … 3, found 4",
        ),
        (
            {"observation": np.array([0, 1])},
            "environment 0 … 2, episode 1, at t=2: expected shape (3,), found shape (2,)",
        ),
        (
            {"reward": ["1", 1.0, 2.0]},
            "'env/reward' from environment 0, episode 0, at t=2: expected one number or bool",
        ),
        ({"reward": [1.0, 2.0]}, "'env/reward' from environment 0 … 2, episode 1, at t=2: expected 3 numbers or bools"),
        ({"terminated": [True, None, False]}, "'env/terminated' from environment 1, episode 0, at t=2: expected one"),
        ({"truncated": "no"}, "'env/truncated' from environment 0 … 2, episode 1, at t=2: expected 3 numbers or bools"),
    ],
)
def test_vectorised_environments_are_held_to_the_same(vector_id: str, given: dict[str, Any], message: str) -> None:
    agent = AutoResetGymAgent(vector_id, 3, stepping="vectorized", kwargs=given)
    with pytest.raises(SpaceMismatchError) as caught:
        unroll(agent)
    assert message in str(caught.value)


def test_two_parts_of_a_space_that_would_be_one_variable_are_refused() -> None:
    part = spaces.Discrete(2)
    space = spaces.Dict({"a/b": part, "a": spaces.Dict({"b": part})})
    with pytest.raises(
        ConfigurationError, match="Gives: two parts of a space would both be the variable 'env/env_obs/a/b'"
    ):
        AutoResetGymAgent(Gives, 1, kwargs={"space": space})


def test_a_space_that_is_not_supported_names_the_environment() -> None:
    with pytest.raises(
        ConfigurationError, match="Gives: the space of 'env/env_obs' is a Text, which has no fixed tensors"
    ):
        AutoResetGymAgent(Gives, 1, kwargs={"space": spaces.Text(5)})
