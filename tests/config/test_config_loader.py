"""The loader that remembers gives what Hydra's own gives."""

import random
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.compose import Composer, register_resolvers
from bbrl_exp.config.config_loader import RememberingConfigLoader
from bbrl_exp.config.folders import default_config_dir

CHOICES = [
    [],
    ["agent=ppo", "env=pendulum"],
    ["agent=ppo"],
    ["agent=dqn", "seed=3", "agent.learner.n_steps=1"],
    ["experiment=dqn_acrobot"],
    ["experiment=sac_pendulum", "launcher=joblib", "hydra.launcher.n_jobs=2"],
    ["agent=dqn", "search=dqn"],
    ["agent=ppo", "+agent.members.more={_target_: bbrl_exp.agents.tools.PrintAgent}"],
]


@pytest.fixture(scope="module", autouse=True)
def resolvers() -> None:
    register_resolvers()
    with Composer(default_config_dir()):
        pass  # registers Hydra's own configurations


def loaded(loader: ConfigLoaderImpl, overrides: list[str], mode: RunMode = RunMode.RUN) -> DictConfig:
    return loader.load_configuration("config", overrides, mode)


def as_written(config: DictConfig) -> tuple[str, list[str]]:
    """The text of the configuration, and the order of its members, which is their order in the graph."""
    return OmegaConf.to_yaml(config, resolve=False), list(config.agent.members)


def test_what_is_remembered_equals_what_is_read_in_any_order() -> None:
    search_path = create_config_search_path(str(default_config_dir()))
    expected = [as_written(loaded(ConfigLoaderImpl(search_path), overrides)) for overrides in CHOICES]
    remembering = RememberingConfigLoader(search_path)
    order = random.Random(0)
    for _ in range(3):
        for index in order.sample(range(len(CHOICES)), len(CHOICES)):
            config = loaded(remembering, CHOICES[index])
            assert as_written(config) == expected[index], CHOICES[index]
            OmegaConf.set_struct(config, False)
            config.agent.members.env = {"spoilt": True}  # what one composition gives is no part of the next
            config.seed = -1


def test_the_jobs_of_a_sweep_are_those_of_hydras_own_loader() -> None:
    search_path = create_config_search_path(str(default_config_dir()))
    given = []
    for loader in (ConfigLoaderImpl(search_path), RememberingConfigLoader(search_path)):
        master = loaded(loader, ["agent=ppo,dqn", "seed=1,2"], RunMode.MULTIRUN)
        jobs = [["agent=ppo", "seed=1"], ["agent=dqn", "seed=1"], ["agent=ppo", "seed=2"], ["agent=ppo", "seed=1"]]
        given.append([as_written(loader.load_sweep_config(master, job)) for job in jobs])
    assert given[0] == given[1]
    assert given[1][0] == given[1][3] != given[1][2]


def test_with_a_search_path_of_its_own_every_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "mine.yaml").write_text("first: 1\n")
    loader = RememberingConfigLoader(create_config_search_path(str(default_config_dir())))
    loaded(loader, [])
    asked = [f"hydra.searchpath=[{tmp_path}]", "agent=mine"]
    assert loaded(loader, asked).agent == {"first": 1}
    (tmp_path / "agent" / "mine.yaml").write_text("second: 2\n")
    assert loaded(loader, asked).agent == {"second": 2}


def test_what_goes_to_another_process_remembers_nothing() -> None:
    loader = RememberingConfigLoader(create_config_search_path(str(default_config_dir())))
    loaded(loader, [])
    assert loader.__dict__["_composed"]
    assert loader.__getstate__()["_composed"] == {}
    assert loader.__getstate__()["_shared"] is None
