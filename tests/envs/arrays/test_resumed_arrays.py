"""Array environments are resumed bit for bit, also by the other backend, and frozen ones stay frozen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import BACKENDS, IDS, made, rows, step

from bbrl_exp.envs.arrays.environments import ArrayEnvironments
from bbrl_exp.envs.gym_agents import AutoResetGymAgent
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.runs.run import run
from bbrl_exp.workspace import Workspace

SHORT = ["total_steps=512", "agent.steps_per_chunk=32", "batch_size=4", "eval.every=256", "eval.final_episodes=2"]


def continued(agent: ArrayEnvironments, workspace: Workspace, generator: np.random.Generator) -> Workspace:
    for _ in range(60):
        step(agent, workspace, generator)
    return workspace


@pytest.mark.parametrize("auto_reset", [True, False])
@pytest.mark.parametrize("env_id", IDS)
def test_others_that_take_over_the_state_show_the_same_rows(env_id: str, auto_reset: bool) -> None:
    for backend in BACKENDS if env_id in ("CartPole-v1", IDS[-1]) else ("array",):
        agent = made(backend, env_id, 3, 6)
        agent = agent if auto_reset else agent.for_evaluation(3, 6, "eval")
        workspace, generator = rows(agent, 70), np.random.default_rng(2)
        state, recorded = copy.deepcopy(agent.run_state()), Workspace(workspace)
        expected = continued(agent, workspace, copy.deepcopy(generator))
        other = made(backend, env_id, 3, 1)
        other = other if auto_reset else other.for_evaluation(3, 1, "eval")
        other.load_run_state(state)
        found = continued(other, recorded, generator)
        for name in agent.layout:
            assert torch.equal(found[name], expected[name]), (backend, name)


def test_one_backend_resumes_what_the_other_one_began() -> None:
    for one, other in (("array", "torch"), ("torch", "array")):
        first, second = made(one, "bbrl_exp/TMaze-v0", 3, 6), made(other, "bbrl_exp/TMaze-v0", 3, 0)
        workspace = rows(first, 40)
        recorded = Workspace(workspace)
        second.load_run_state(first.run_state())
        found = continued(second, recorded, np.random.default_rng(2))
        assert torch.equal(found["env/env_obs"], continued(first, workspace, np.random.default_rng(2))["env/env_obs"])


def test_the_state_of_another_batch_or_task_is_refused() -> None:
    agent = made("array", "CartPole-v1", 3)
    rows(agent, 1)
    for other in (made("array", "CartPole-v1", 2), made("torch", "Acrobot-v1", 3)):
        with pytest.raises(ConfigurationError) as error:
            other.load_run_state(agent.run_state())
        assert str(error.value) == (
            "a state of CartPole-v1 [3, 4] as an array cannot be taken over by "
            f"{other.env_spec.env_id} [{other.batch_size}, 4]"
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_state_of_the_gym_backend_is_refused(backend: str) -> None:
    agent = made(backend, "CartPole-v1", 2)
    with pytest.raises(ConfigurationError) as error:
        agent.load_run_state(AutoResetGymAgent("CartPole-v1", 2).run_state())
    assert str(error.value) == (
        "a state of Gymnasium's environments cannot be taken over by CartPole-v1 as an array; "
        "resume with the env.backend that the run began with"
    )
    with pytest.raises(ConfigurationError) as error:
        agent.load_run_state({"position": 3})
    assert str(error.value) == (
        "a state of environments of another kind cannot be taken over by CartPole-v1 as an array; "
        "resume with the env.backend that the run began with"
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gym_backend_refuses_the_state_of_an_array(backend: str) -> None:
    agent = made(backend, "CartPole-v1", 2)
    rows(agent, 1)
    for state, found in ((agent.run_state(), "array environments"), ({}, "environments of another kind")):
        with pytest.raises(ConfigurationError) as error:
            AutoResetGymAgent("CartPole-v1", 2).load_run_state(state)
        assert str(error.value) == (
            f"a state of {found} cannot be taken over by CartPole-v1 of Gymnasium; "
            "resume with the env.backend that the run began with"
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_before_the_first_reset_is_refused(backend: str) -> None:
    with pytest.raises(BbrlExpError) as error:
        made(backend, "CartPole-v1")(Workspace(), t=1)
    kind = type(made(backend, "CartPole-v1")).__name__
    assert str(error.value) == f"{kind} at t=1: its environments have not been reset; begin at t=0"


def results(found: Any) -> dict[str, Any]:
    return {key: getattr(found, key) for key in ("env_steps", "return_mean", "eval_return_mean")}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_is_paused_ends_as_one_that_is_not(backend: str, tmp_path: Path) -> None:
    setting = ["agent=ppo", "env=masked_cartpole", f"env.backend={backend}", "checkpoint.every=128", *SHORT]
    ended = {}
    for name, pauses in (("straight", []), ("paused", ["pause_after=256"])):
        for more in (pauses, []) if pauses else ([],):
            run([*setting, "tracking=none", f"hydra.run.dir={tmp_path}/{name}", *more])
        ended[name] = torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)
    one, other = (each["state"] for each in ended.values())
    assert one.keys() == other.keys()
    for key, value in _flat(one):
        assert torch.equal(value, dict(_flat(other))[key]), key


def _flat(state: Any, key: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(state, torch.Tensor):
        return [(key, state)]
    return (
        [pair for name, part in state.items() for pair in _flat(part, f"{key}.{name}")]
        if isinstance(state, dict)
        else []
    )
