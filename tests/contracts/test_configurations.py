"""Every option of every group composes, passes all checks and runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bbrl_exp.config.check import check
from bbrl_exp.config.compose import Composer, resolve
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import prepare
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.run import run

CONF = default_config_dir()
FAST = ["total_steps=64", "agent.steps_per_chunk=16", "batch_size=2", "eval.every=0", "eval.final_episodes=1"]
CONTINUOUS = ("pendulum", "masked_pendulum")


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    """One for all: it reads each file once."""
    with Composer(CONF) as composer:
        yield composer


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def action_space_of(agent: str) -> str:
    action_space: str = OmegaConf.load(CONF / "agent" / f"{agent}.yaml")["action_space"]
    return action_space


# Behaviour cloning needs a recording first: tests/runs/test_recording.py.
# What is masked is a shorter observation to all but those that remember.
@pytest.mark.parametrize(
    ("agent", "env"),
    [
        (agent, env)
        for agent in options("agent")
        if agent != "behaviour_cloning"
        for env in ("cartpole", "pendulum", "masked_cartpole", "masked_pendulum")
        if "masked" not in env or agent in ("random", "ppo") or agent.startswith("recurrent")
    ],
)
def test_every_agent_runs_in_every_kind_of_environment(
    agent: str, env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = action_space_of(agent)
    if asked not in ("any", "continuous" if env in CONTINUOUS else "discrete"):
        with pytest.raises(ConfigurationError, match=r"agents that fit: .*random"):
            run([f"agent={agent}", f"env={env}", *FAST])
        assert list(tmp_path.iterdir()) == []
        return
    try:
        result = run([f"agent={agent}", f"env={env}", "tracking=none", *FAST])
    except ConfigurationError as error:
        if "'agent.learner.recording' = null: a file is needed" not in str(error):
            raise
        assert list(tmp_path.iterdir()) == []
        return
    assert result.summary.status == "completed"
    assert result.summary.env_steps == 64


# Those of a whole package want an id.
@pytest.mark.parametrize("env", [name for name in options("env") if name not in ("gym", "minigrid", "atari", "popgym")])
def test_every_environment_runs_or_names_its_extra(env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        result = run([f"env={env}", "tracking=none", *FAST])
    except ConfigurationError as error:
        if "needs the extra" not in str(error):
            raise
        pytest.skip(str(error))
    assert (result.summary.status, result.summary.env_steps) == ("completed", 64)


@pytest.mark.parametrize(
    ("group", "option"),
    [(group, option) for group in ("tracking", "launcher", "experiment") for option in options(group)],
)
def test_every_other_option_passes_the_checks(group: str, option: str, composer: Composer) -> None:
    config = composer.compose([f"{group}={option}"])
    try:
        with prepare(check(config), without_environments=True) as prepared:
            assert prepared.run.size.idle == {}
    except ConfigurationError as error:
        if "needs the extra" not in str(error):
            raise
        pytest.skip(str(error))


def test_any_id_runs_through_gym_and_keeps_the_settings_of_another_environment() -> None:
    with Composer(CONF) as composer:
        assert (
            resolve(composer.compose(["env=gym", "env.id=Taxi-v4"]))["graph"]["agent"]["members"]["env"]["env"]
            == "Taxi-v4"
        )
        changed = resolve(composer.compose(["env=masked_cartpole", "env.id=Acrobot-v1"]))
        assert list(changed["env"]["wrappers"]) == ["mask"]


def test_every_file_says_what_it_is() -> None:
    for path in CONF.rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
        assert lines[0].startswith("# "), path
