"""Critics that a learner of action values cannot use, or not in full, are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from continuous_batches import critic, deterministic, discrete_spec, spec, squashed

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.crossq import CrossQ
from bbrl_exp.learners.ddpg import DDPG
from bbrl_exp.learners.discrete_sac import DiscreteSAC
from bbrl_exp.learners.droq import DroQ
from bbrl_exp.learners.learner import Learner
from bbrl_exp.learners.sac import SAC
from bbrl_exp.learners.td3 import TD3
from bbrl_exp.learners.tqc import TQC
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy

BATCH, QUANTILES = {"normalization": "batch"}, {"n_quantiles": 5}


def discrete_sac(**options: Any) -> DiscreteSAC:
    return DiscreteSAC(StochasticPolicy(discrete_spec()), DiscreteQEnsemble(discrete_spec(), **options))


# Each learner with options of its critic added to those that it needs.
LEARNERS: dict[str, Callable[..., Learner]] = {
    "DDPG": lambda **options: DDPG(deterministic(), critic(1, **options)),
    "TD3": lambda **options: TD3(deterministic(), critic(**options)),
    "SAC": lambda **options: SAC(squashed(), critic(**options)),
    "TQC": lambda **options: TQC(squashed(), critic(**{**QUANTILES, **options})),
    "CrossQ": lambda **options: CrossQ(squashed(), critic(**{**BATCH, **options})),
    "DroQ": lambda **options: DroQ(squashed(), critic(**options)),
    "DiscreteSAC": discrete_sac,
}


@pytest.mark.parametrize("name", list(LEARNERS))
def test_a_critic_that_sees_something_else_than_the_policy_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match="critic: reads normalized/env/env_obs, and the policy env/env_obs; give"
    ):
        LEARNERS[name](observation_prefix="normalized/")


# An option, the only learner that uses it, and what the others say.
OPTIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"dropout": 0.1}, "DroQ", r"critic\.dropout=0\.1: has no effect with {name}, only with DroQ; must be 0"),
    (BATCH, "CrossQ", r"critic\.normalization='batch': {name} .* only CrossQ does; must be 'none' or 'layer'"),
    (QUANTILES, "TQC", r"critic\.n_quantiles=5: {name} .* only TQC learns quantiles; must be 1"),
]


@pytest.mark.parametrize(
    ("name", "options", "user", "message"),
    [
        pytest.param(name, *option, id=f"{name}-{next(iter(option[0]))}")
        for name in LEARNERS
        for option in OPTIONS
        if name != "DiscreteSAC" or option[0] is BATCH
    ],
)
def test_an_option_of_the_critic_is_used_or_refused(
    name: str, options: dict[str, Any], user: str, message: str
) -> None:
    if name == user:
        LEARNERS[name](**options)
        return
    with pytest.raises(ConfigurationError, match=message.format(name=name)):
        LEARNERS[name](**options)


def test_a_critic_may_see_what_the_policy_sees_under_a_prefix() -> None:
    prefix = "normalized/"
    SAC(SquashedNormalPolicy(spec(), observation_prefix=prefix), critic(observation_prefix=prefix))
