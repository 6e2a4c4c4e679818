"""Environments of well-known packages need no permission: their ids say which package to import, or to install."""

import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import prepared
import pytest

from bbrl_exp.envs.make import env_recipe
from bbrl_exp.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
STUB = """
import random

import gymnasium
from gymnasium import spaces

random.random()  # what a package does when it is imported must not change the run


class Corridor(gymnasium.Env):
    observation_space, action_space = spaces.Box(0.0, 9.0, (1,)), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.observation_space.low + self.place, {}

    def step(self, action):
        self.place += 1
        return self.observation_space.low + self.place, float(action), self.place == 9, False, {}


class Show(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return observation


gymnasium.register("MiniGrid-Corridor-v0", "minigrid:Corridor")
"""
ID = "MiniGrid-Corridor-v0"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "minigrid").mkdir()
    (tmp_path / "minigrid" / "__init__.py").write_text(STUB)
    (tmp_path / "minigrid" / "wrappers.py").write_text(STUB.partition("gymnasium.register")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("BBRL_EXP_ALLOW", raising=False)
    monkeypatch.delitem(sys.modules, "minigrid", raising=False)
    yield tmp_path
    sys.modules.pop("minigrid", None)
    gymnasium.registry.pop(ID, None)


def refusal(env_id: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        env_recipe(env_id)
    return str(caught.value)


def test_an_id_imports_its_package_and_changes_no_random_stream(stub: Path) -> None:
    before = random.getstate()
    assert env_recipe(ID)().reset()[0] == [0.0]
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("env_id", "module", "extra"),
    [
        ("MiniGrid-Empty-8x8-v0", "minigrid", "minigrid"),
        ("BabyAI-GoToObj-v0", "minigrid", "minigrid"),
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("PongNoFrameskip-v4", "ale_py", "atari"),
        ("popgym-RepeatPreviousEasy-v0", "popgym", "popgym"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    env_id: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    monkeypatch.delitem(gymnasium.registry, env_id, raising=False)
    assert refusal(env_id) == (
        f"env '{env_id}': needs the extra '{extra}', which is not installed: pip install \"bbrl_exp[{extra}]\""
    )


def test_a_package_that_lacks_another_one_names_that_one(stub: Path) -> None:
    (stub / "minigrid" / "__init__.py").write_text("import no_such_package\n")
    assert refusal(ID) == f"env '{ID}': minigrid needs the package 'no_such_package', which is not installed"


def test_a_package_that_cannot_be_imported_is_one_line(stub: Path) -> None:
    (stub / "minigrid" / "__init__.py").write_text("raise SystemExit('leaving')\n")
    assert refusal(ID).startswith(f"env '{ID}': minigrid cannot be imported: ")


@pytest.mark.parametrize(
    ("env_id", "near"),
    [
        ("CartPole-v7", "; did you mean 'CartPole-v1'?"),
        ("Xyzzy-v0", "."),
        ("MiniGrid-Coridor-v0", f"; did you mean '{ID}'?"),
    ],
)
def test_an_unknown_id_is_refused_with_the_nearest_one_and_how_to_allow_a_package(
    stub: Path, env_id: str, near: str
) -> None:
    assert refusal(env_id) == (
        f"env '{env_id}': unknown Gymnasium id{near} If another package registers it, allow that package: "
        'BBRL_EXP_ALLOW=<package>, or allow = ["<package>"] below [tool.bbrl_exp] in pyproject.toml'
    )


def test_a_run_its_workers_its_evaluations_and_its_resume_find_the_environment(stub: Path) -> None:
    def command(script: str, *arguments: str) -> str:
        called = [str(ROOT / "scripts" / script), *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(stub), *sys.path])}
        ended = prepared.run(called, stub, environment)
        assert ended.wait() == 0, ended.stderr
        return ended.stdout

    run = ["agent=ppo", "env=gym", f"env.id={ID}", "+env.wrappers.show={_target_: minigrid.wrappers.Show}"]
    run += ["total_steps=256", "agent.steps_per_chunk=16", "env.workers=2", "eval.workers=1", "eval.every=128"]
    run += ["eval.episodes=2", "eval.final_episodes=3"]
    command("run.py", *run, "name=straight")
    command("run.py", *run, "name=stopped", "pause_after=128")
    command("run.py", *run, "name=stopped")
    straight, stopped = (
        json.loads((stub / "outputs" / name / "summary.json").read_text(encoding="utf-8"))
        for name in ("straight", "stopped")
    )
    assert straight["status"] == stopped["status"] == "completed"
    assert straight["eval_returns"] == stopped["eval_returns"]
    assert len(straight["eval_returns"]) == 3
    assert "over 2 episodes" in command("evaluate.py", "outputs/straight", "--episodes", "2")
