"""The agents that are said to fit an environment are those that run in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from bbrl_exp.config.check import check
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import prepare
from bbrl_exp.errors import ConfigurationError

CONF = default_config_dir()
FLOATS, INTEGERS = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Box(0, 9, (2,), np.int32)
SPACES = {
    "integers": INTEGERS,
    "unbounded": FLOATS,
    "multi": spaces.MultiDiscrete([3, 4]),
    "tuple": spaces.Tuple((spaces.Discrete(2), FLOATS)),
    "dict": spaces.Dict({"a": spaces.Discrete(2), "b": INTEGERS}),
}


class Acts(gymnasium.Env[Any, Any]):
    """Takes actions of any space and shows the same thing for ever."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, space: str) -> None:
        self.action_space = SPACES[space]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    gymnasium.register("Acts-v0", entry_point=Acts)
    with Composer(CONF) as composer:
        yield composer
    del gymnasium.registry["Acts-v0"]


def refusal_of(composer: Composer, agent: str, space: str) -> str:
    try:
        overrides = [f"agent={agent}", "env=gym", "env.id=Acts-v0", f"+env.kwargs.space={space}"]
        prepare(check(composer.compose(overrides)), without_environments=True)
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("space", SPACES)
def test_the_agents_that_are_named_can_choose_the_actions(composer: Composer, space: str) -> None:
    named = set(refusal_of(composer, "dqn", space).rpartition("agents that fit: ")[2].split(", "))
    of_any_space = {"constant", "random"}
    of_no_integers = {"a2c", "behaviour_cloning", "cem", "mlp", "ppo", "recurrent_a2c", "recurrent_ppo", "reinforce"}
    assert named == (of_any_space if space in ("integers", "dict") else of_any_space | of_no_integers)


def test_the_agents_that_are_not_named_cannot(composer: Composer) -> None:
    for path in (CONF / "agent").glob("*.yaml"):
        refusal = refusal_of(composer, path.stem, "dict")
        assert (refusal == "") == (path.stem in ("constant", "random")), (path.stem, refusal)
