"""A configuration that went to another process is the one that was sent."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bbrl_exp.config.carried import CarriedJob
from bbrl_exp.config.compose import Composer
from bbrl_exp.config.identity import identity_hash
from bbrl_exp.config.options import default_config_dir


def composed(*overrides: str) -> DictConfig:
    with Composer(default_config_dir()) as composer:
        return composer.compose(overrides)


def carried(config: DictConfig) -> DictConfig:
    OmegaConf.update(config, "hydra.runtime.output_dir", "folder", force_add=True)
    HydraConfig.instance().set_config(config)
    return CarriedJob.of(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])).config()


def as_written(config: DictConfig) -> dict[str, Any]:
    contents = OmegaConf.to_container(config, resolve=False)
    assert isinstance(contents, dict)
    return {str(key): value for key, value in contents.items()}


def test_every_key_arrives_as_it_was_written() -> None:
    sent = composed("agent=ppo", "env=pendulum", "launcher=joblib", "seed=7", "name=a b")
    arrived = carried(sent)
    plain = {"sent": as_written(sent), "arrived": as_written(arrived)}
    hydra = {name: contents.pop("hydra") for name, contents in plain.items()}
    assert plain["arrived"] == plain["sent"]
    assert {key: hydra["arrived"][key] for key in hydra["sent"]} == hydra["sent"]
    assert list(arrived.agent.members) == list(sent.agent.members)
    assert identity_hash(arrived) == identity_hash(sent)
    assert arrived.hydra.overrides.task == sent.hydra.overrides.task


def test_interpolations_still_follow_what_they_name() -> None:
    arrived = carried(composed("agent=mlp", "seed=7"))
    arrived.seed = 8
    assert arrived.agent.members.policy.seed == 8


def test_a_configuration_that_arrived_can_be_sent_on() -> None:
    arrived = carried(composed("agent=dqn"))
    assert as_written(carried(arrived)) == as_written(arrived)
