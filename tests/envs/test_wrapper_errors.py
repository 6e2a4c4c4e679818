"""A wrapper that cannot be made is named, and not taken for the environment."""

import gymnasium
import pytest

from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.errors import ConfigurationError


def lacks_a_package(env: gymnasium.Env) -> gymnasium.Env:
    raise gymnasium.error.DependencyNotInstalled('run `pip install "gymnasium[other]"`')


def test_a_wrapper_that_lacks_a_package_is_named():
    with pytest.raises(
        ConfigurationError, match=r'wrapper lacks_a_package of CartPole-v1 needs .* pip install "gymnasium\[other\]"'
    ):
        AutoResetGymAgent("CartPole-v1", 1, wrappers=[lacks_a_package])
