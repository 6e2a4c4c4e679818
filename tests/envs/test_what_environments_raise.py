"""Whatever an environment raises is one error that says where; what it raises when it is closed is a warning."""

from __future__ import annotations

import asyncio
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.wrappers import Autoreset, NormalizeObservation, NormalizeReward
from gymnasium.wrappers import vector as vector_wrappers
from resumed_envs import VectorWalk
from toy_envs import Counting, Exits

from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.errors import ConfigurationError, UserCodeError
from bbrl_exp.workspace import Workspace

ENDS_SILENTLY = [SystemExit(3), GeneratorExit("no more"), asyncio.CancelledError("no"), StopIteration("over")]


def unroll(agent: AutoResetGymAgent, n_steps: int) -> None:
    workspace = Workspace()
    for t in range(n_steps):
        agent(workspace, t=t)
        workspace.set("action", t, torch.zeros(agent.batch_size, dtype=torch.int64))


@pytest.mark.parametrize("error", [*ENDS_SILENTLY, ValueError("a wall"), ImportError("a_package")], ids=repr)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_constructor_that_raises_is_named_with_the_reason(error: BaseException, workers: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AutoResetGymAgent(Exits, 2, workers=workers, kwargs={"where": "constructor", "error": error})
    message = str(caught.value)
    assert message.startswith("Exits ")
    assert str(error) in message
    if not isinstance(error, ImportError):
        assert "cannot be made: its constructor raised " in message
        assert type(error).__name__ in message


@pytest.mark.parametrize("error", ENDS_SILENTLY, ids=repr)
@pytest.mark.parametrize(("where", "t"), [("reset", 0), ("step", 1)])
def test_what_would_end_the_process_without_a_word_is_an_error(error: BaseException, where: str, t: int) -> None:
    agent = AutoResetGymAgent(Exits, 2, kwargs={"where": where, "error": error})
    message = rf"^{type(error).__name__}: {error} \(in environment 0, episode 0, at t={t}\)$"
    with pytest.raises(UserCodeError, match=message):
        unroll(agent, 3)


def test_a_worker_says_the_same() -> None:
    agent = AutoResetGymAgent(Exits, 2, workers=1, kwargs={"where": "step", "error": SystemExit(3)})
    with pytest.raises(UserCodeError) as caught:
        unroll(agent, 3)
    assert str(caught.value) == "SystemExit: 3 (in environment 0, episode 0, at t=1)"


@pytest.mark.parametrize("error", [SystemExit(3), RuntimeError("no connection")], ids=repr)
def test_a_close_that_raises_is_a_warning(error: BaseException) -> None:
    agent = AutoResetGymAgent(Exits, 1, kwargs={"where": "close", "error": error})
    unroll(agent, 2)
    with pytest.warns(UserWarning, match=rf"Exits: close\(\) raised .*{error}"):
        agent.close()


@pytest.mark.filterwarnings("default:Exits:UserWarning")
def test_a_close_that_raises_before_or_in_a_worker_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    agent = AutoResetGymAgent(Exits, 2, workers=1, kwargs={"where": "close", "error": RuntimeError("no connection")})
    unroll(agent, 3)
    agent.close()
    assert "Exits: close() raised RuntimeError: no connection" in capfd.readouterr().err


class FailsToClose(VectorWalk):
    def close(self, **kwargs: Any) -> None:
        raise RuntimeError("no connection")


@pytest.fixture
def vector_ids() -> Any:
    entries = {
        "FailsToClose-v0": FailsToClose,
        "VectorNormalized-v0": lambda **kwargs: vector_wrappers.NormalizeObservation(VectorWalk(**kwargs)),
        "VectorRewards-v0": lambda **kwargs: vector_wrappers.NormalizeReward(VectorWalk(**kwargs)),
    }
    for env_id, entry in entries.items():
        gymnasium.register(env_id, entry_point=Counting, vector_entry_point=entry)
    yield
    for env_id in entries:
        del gymnasium.registry[env_id]


def test_vectorised_environments_that_fail_to_close_are_a_warning(vector_ids: None) -> None:
    agent = AutoResetGymAgent("FailsToClose-v0", 2, stepping="vectorized")
    with pytest.warns(UserWarning, match=r"FailsToClose-v0: close\(\) raised RuntimeError: no connection"):
        agent.close()


@pytest.mark.parametrize(
    ("wrapper", "instead"),
    [
        (NormalizeObservation, r"bbrl_exp\.policies\.normalize\.NormalizeObservation"),
        (NormalizeReward, r"bbrl_exp\.policies\.normalize\.NormalizeReward"),
        (Autoreset, "leave it out"),
    ],
)
def test_wrappers_of_gymnasium_that_make_results_wrong_are_refused(wrapper: Any, instead: str) -> None:
    message = f"the wrapper {wrapper.__name__} .*{instead}"
    with pytest.raises(ConfigurationError, match=message):
        AutoResetGymAgent("CartPole-v1", 1, wrappers=[wrapper])
    with pytest.raises(ConfigurationError, match=message):  # below another one, as an environment is made
        AutoResetGymAgent(lambda: gymnasium.wrappers.OrderEnforcing(wrapper(gymnasium.make("CartPole-v1"))), 1)


@pytest.mark.parametrize("name", ["Normalized", "Rewards"])
def test_so_are_those_of_vectorised_environments(name: str, vector_ids: None) -> None:
    with pytest.raises(ConfigurationError, match=r"the wrapper Normalize.* keeps running statistics"):
        AutoResetGymAgent(f"Vector{name}-v0", 2, stepping="vectorized")
