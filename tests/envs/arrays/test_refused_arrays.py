"""What array environments cannot do is refused in one line that says what is possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bbrl_exp.envs.arrays import compiling
from bbrl_exp.envs.arrays.backends import KNOWN_IDS
from bbrl_exp.envs.arrays.numba_environments import NumbaEnvironments
from bbrl_exp.envs.arrays.task import ArrayTask
from bbrl_exp.envs.arrays.together import NumbaTogether
from bbrl_exp.envs.arrays.torch_environments import TorchEnvironments
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError, NonFiniteError
from bbrl_exp.runs.policy import evaluate
from bbrl_exp.runs.run import run
from bbrl_exp.workspace import Workspace

IDS = ", ".join(KNOWN_IDS)
ARRAY = "env.backend=array"
REFUSED = {
    (ARRAY, "env.workers=2"): "key 'env.workers' = 2: must be 0 with env.backend=array, which needs none",
    ("env.backend=torch", "env.stepping=vectorized"): (
        "key 'env.stepping' = 'vectorized': must be auto with env.backend=torch"
    ),
    ("env=lunar_lander", ARRAY): (
        f"key 'env.id' = 'LunarLander-v3': not available with env.backend=array; available: {IDS}; "
        "env.backend=gym takes any, and docs/array_environments.md shows how to write your own as an ArrayTask"
    ),
    (ARRAY, "+env.kwargs.colour=red"): (
        "key 'env.agent': ArrayBackend: CartPole-v1 with arguments {'colour': 'red'} cannot be made: its constructor "
        "raised TypeError: CartPoleEnv.__init__() got an unexpected keyword argument 'colour' was raised from the "
        "environment creator for CartPole-v1 with kwargs ({'colour': 'red'})"
    ),
    ("env=t_maze", ARRAY, "env.kwargs.corridor_length=0"): "key 'env.kwargs.corridor_length' = 0: must be at least 1",
    (ARRAY, "+env.wrappers.flicker={_target_: bbrl_exp.envs.sensors.FlickeringObservation}"): (
        "key 'env.wrappers': FlickeringObservation does not apply to array environments; with env.backend=array only "
        "MaskObservation does; env.backend=gym takes any"
    ),
    (ARRAY, "env.info_keys=[fuel]"): "key 'env.info_keys': CartPole-v1 as an array has no 'fuel'; it has: none",
    ("env.backend=aray",): "key 'env.backend' = 'aray': must be one of gym, array, torch; did you mean 'array'?",
    ("env.backend=numpy",): "key 'env.backend' = 'numpy': must be one of gym, array, torch",
}


@pytest.mark.parametrize("overrides", REFUSED, ids=lambda overrides: overrides[-1])
def test_what_does_not_apply_is_refused_before_anything_is_written(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as error:
        run(["agent=random", *(() if overrides[0].startswith("env=") else ("env=cartpole",)), *overrides])
    assert str(error.value) == REFUSED[overrides]
    assert not list(tmp_path.iterdir())


def test_without_numba_the_message_names_the_extra_and_other_backends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["agent=random", "env=cartpole", ARRAY, "total_steps=4", "eval.final_episodes=1", "tracking=none"]
    run([*small, "name=before"])
    monkeypatch.setitem(__import__("sys").modules, "numba", None)
    compiling._compiled.cache_clear()
    expected = (
        "key 'env.backend' = 'array': needs the extra 'array', which is not installed: pip install "
        '"bbrl_exp[array]", or use env.backend=torch or env.backend=gym'
    )
    for refused in (lambda: run(small), lambda: evaluate(tmp_path / "outputs" / "before", 1)):
        with pytest.raises(ConfigurationError) as error:
            refused()
        assert str(error.value) == expected
    with pytest.raises(ConfigurationError) as error:
        NumbaEnvironments(Doubling(), 1)
    assert str(error.value) == (
        "NumbaEnvironments needs the extra 'array', which is not installed: pip install \"bbrl_exp[array]\""
    )


class Doubling(ArrayTask):
    """A number that an action 1 doubles, until float32 cannot hold it."""

    env_id = "Doubling"
    observation = LeafSpec.box("env/env_obs", (1,), 0, float("inf"))
    action = LeafSpec.discrete("action", 2)
    n_state = 1

    @staticmethod
    def begin_row(random: Any, parameters: Any, state: Any) -> None:
        state[0] = 1e20

    @staticmethod
    def advance_row(state: Any, action: Any, parameters: Any) -> tuple[float, bool]:
        state[0] = times(state[0], 1e10) if action == 1 else state[0]
        return 0.0, False

    @staticmethod
    def observe_row(state: Any, parameters: Any, observation: Any) -> None:
        observation[0] = state[0]

    def begin(self, random: torch.Tensor) -> torch.Tensor:
        return torch.full((*random.shape[:-1], 1), 1e20, dtype=torch.float64)

    def advance(self, state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.where(action[:, None] == 1, 1e10 * state, state), torch.zeros(len(state)), action < 0

    def observe(self, state: torch.Tensor) -> torch.Tensor:
        return state


def times(one: float, other: float) -> float:
    return one * other


class Nothing(ArrayTask):
    env_id, n_state = "Nothing", 1
    observation, action = Doubling.observation, Doubling.action


@pytest.mark.parametrize("kind", [NumbaEnvironments, TorchEnvironments])
def test_an_observation_that_is_not_finite_is_refused_where_it_is_shown(kind: Any) -> None:
    agent, workspace = kind(Doubling(), 3), Workspace()
    for t in range(2):
        agent(workspace, t=t)
        workspace.set("action", t, torch.tensor([0, 0, 1]))
    with pytest.raises(NonFiniteError) as error:
        agent(workspace, t=2)
    assert str(error.value) == "non-finite value in 'env/env_obs' from environment 2 at t=2: inf"
    assert workspace.n_steps("env/env_obs") == 2


def test_jobs_whose_task_refuses_even_action_0_are_refused_together() -> None:
    agents, workspaces = [NumbaEnvironments(Doubling(), 2, seed) for seed in (1, 2)], [Workspace(), Workspace()]
    together = NumbaTogether(agents)
    assert together.step(0, workspaces, [0, 1]) == {}
    together._whole._bounds[1] = 0  # no action is left
    for workspace in workspaces:
        workspace.set("action", 0, torch.tensor([0, 1]))
    with pytest.raises(BbrlExpError) as error:
        together.step(1, workspaces, [0, 1])
    assert str(error.value) == "NumbaEnvironments at t=1: environment 0 failed"


def test_a_task_without_functions_for_one_row_is_refused() -> None:
    with pytest.raises(ConfigurationError) as error:
        NumbaEnvironments(Nothing(), 1)
    assert str(error.value) == "Nothing does not define begin_row, advance_row, observe_row, which numba would compile"


def test_a_task_without_pictures_says_so() -> None:
    with pytest.raises(ConfigurationError) as error:
        TorchEnvironments(Doubling(), 1).check_frames()
    assert str(error.value) == "Doubling cannot be animated: Doubling shows no pictures; define frame(state)"
