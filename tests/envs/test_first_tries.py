"""What a few steps before a run tell: what fails at once is refused, what may not repeat itself is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from resumed_envs import SINGLE, Lottery
from toy_envs import Counting, DictNoise, Exits, Gives, GlobalDice, Misbehaving

from bbrl_exp import run
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.envs.checks import try_out
from bbrl_exp.errors import ConfigurationError


class Unseeded(Counting):
    """Has a generator of its own, which no seed reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(0)

    def _observation(self) -> np.ndarray:
        return self.generator.normal(size=1).astype(np.float32)


@pytest.mark.parametrize(
    "env", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", DictNoise, "bbrl_exp/ProbeMemory-v0"], ids=str
)
def test_nothing_is_said_of_environments_that_repeat_themselves(env: str | Callable[..., gymnasium.Env]) -> None:
    assert try_out(AutoResetGymAgent(env, 1)) is None


@pytest.mark.parametrize("env", ["CartPole-v1", SINGLE])
def test_nothing_is_said_of_vectorised_environments_whose_whole_state_is_kept(env: str) -> None:
    assert try_out(AutoResetGymAgent(env, 1, stepping="vectorized")) is None


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (Counting, "Counting shows another 'env/env_obs' after the same seed and actions: it keeps something"),
        (Unseeded, "Unseeded shows another 'env/env_obs' after the same seed and actions"),
        (Lottery, "Lottery draws from the global generator of numpy and not from its own np_random"),
        (GlobalDice, "GlobalDice draws from the global generator of random and numpy and torch and not"),
    ],
)
def test_those_that_may_not_are_named_with_the_reason(env: type[gymnasium.Env], said: str) -> None:
    agent = AutoResetGymAgent(env, 1, kwargs={"length": 50} if env is Lottery else None)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    note = try_out(agent)
    assert note is not None
    assert note.startswith(said)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]


def test_what_fails_at_once_is_refused_and_what_fails_later_is_left_to_the_run() -> None:
    later = Misbehaving("raise")
    assert try_out(AutoResetGymAgent(lambda: later, 1)) is None
    for where in ("reset", "step"):
        agent = AutoResetGymAgent(Exits, 1, kwargs={"where": where, "error": SystemExit(3)})
        with pytest.raises(
            ConfigurationError, match="Exits fails at its first reset or step: UserCodeError: SystemExit: 3"
        ):
            try_out(agent)
    agent = AutoResetGymAgent(Gives, 1, kwargs={"fits": 7, "space": spaces.Discrete(2)})
    with pytest.raises(
        ConfigurationError, match=r"Gives fails at .*'env/env_obs' from environment 0, .*expected 0 … 1, found 7"
    ):
        try_out(agent)


def test_the_plan_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    gymnasium.register("Unseeded-v0", entry_point=Unseeded)
    try:
        run(["agent=random", "env=gym", "env.id=Unseeded-v0", "total_steps=8", "batch_size=1", "tracking=none"])
        shown = " ".join(capfd.readouterr().out.split())
    finally:
        del gymnasium.registry["Unseeded-v0"]
    assert "not repeatable Unseeded-v0 shows another 'env/env_obs' after the same seed and actions" in shown
    assert "none can be resumed within an episode of over 100,000 steps" in shown


def test_a_run_without_checkpoints_keeps_no_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept: list[int] = []
    monkeypatch.setattr("bbrl_exp.envs.action_log.ActionLog.trim", lambda self, lengths: kept.append(1))
    sizes = ["total_steps=64", "batch_size=1", "tracking=none"]
    run(["agent=random", "env=cartpole", "checkpoint.every=0", *sizes])
    before = len(kept)  # what was tried before the run
    run(["agent=random", "env=cartpole", *sizes])
    assert len(kept) > 2 * before
