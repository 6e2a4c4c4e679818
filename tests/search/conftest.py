"""Plans of searches over agents that learn nothing, so that checks cost little."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from bbrl_exp.config.compose import Composer
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.search.plan import SearchPlan, plan_of

BASE = [
    "hydra/sweeper=optuna",
    "agent=mlp",
    "total_steps=1000",
    "batch_size=1",
    "agent.steps_per_chunk=10",
    "eval.every=100",
    "eval.final_episodes=1",
    "hydra.sweeper.seeds=[1,2]",
]
MakePlan = Callable[..., SearchPlan]


@pytest.fixture(scope="session")
def composer() -> Iterator[Composer]:
    with Composer(default_config_dir()) as composer:
        yield composer


@pytest.fixture(scope="session")
def make_plan(composer: Composer) -> MakePlan:
    config = composer.compose(BASE)  # for all runs, which are not run: to compose takes time

    @functools.cache
    def make(*overrides: str) -> SearchPlan:
        every = [*BASE, *overrides]
        plan = plan_of(composer, SweepConfig.of(composer, every))
        return replace(plan, compose=lambda job: config, compose_alone=lambda job: config)

    return make
