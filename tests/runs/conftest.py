"""A command line in this process, in an empty folder."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from bbrl_exp.commands.run import main


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


CommandLine = Callable[..., Ended]


def forget_earlier_tests() -> None:
    """Ends what a test before this one may have left in the process: Hydra's state, logs that lead to a closed file."""
    GlobalHydra.instance().clear()
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.StreamHandler) and getattr(handler.stream, "closed", False):
            root.removeHandler(handler)


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    forget_earlier_tests()

    def call(*arguments: str) -> Ended:
        capfd.readouterr()
        code = main(arguments)
        printed = capfd.readouterr()
        return Ended(code, printed.out, printed.err)

    return call


@pytest.fixture
def users_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of a user's own, on the path and allowed: agents, a wrapper and an environment that go wrong."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "users_own.py").write_text(
        """
import ctypes
import os
import resource
import signal
import time
import warnings

import gymnasium
import numpy as np
import psutil
import torch
from bbrl_exp.agents.agent import Agent
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Learner


class Doubler(Agent):
    def __init__(self, variable: str, env_spec, name: str | None = None) -> None:
        super().__init__(name)
        self.variable = variable

    def forward(self, t: int, **kwargs) -> None:
        self.set((f"{self.variable}/double", t), 2 * self.get((self.variable, t)))


class History(Agent):
    # The observation with something appended.

    def forward(self, t: int, **kwargs) -> None:
        seen = self.get(("env/env_obs", t))
        self.set(("history/env/env_obs", t), torch.cat([seen, seen], dim=1))


class Broken(Agent):
    def __init__(self, at: int, name: str | None = None) -> None:
        super().__init__(name)
        self.at = at

    def forward(self, t: int, **kwargs) -> None:
        if t == self.at:
            raise ZeroDivisionError("the agent is broken")


class BrokenOfSeed(Broken):
    def __init__(self, at: int, seed: int, broken: int, name: str | None = None) -> None:
        super().__init__(at if seed == broken else -1, name)


class OneAction(Agent):
    def __init__(self, seed: int, name: str | None = None) -> None:
        super().__init__(name)

    def forward(self, t: int, **kwargs) -> None:
        self.set(("action", t), torch.zeros(1, dtype=torch.int64))


class NeedsTwo(Agent):
    def __init__(self, env_spec, name: str | None = None) -> None:
        super().__init__(name)
        assert env_spec.batch_size == 2, "two environments"

    def forward(self, t: int, **kwargs) -> None:
        if len(self.get(("env/reward", t))) != 2:
            raise ValueError("two environments")


class Warns(Agent):
    def forward(self, t: int, **kwargs) -> None:
        warnings.warn("old news", UserWarning)


class Stops(Agent):
    def __init__(self, at: int, name: str | None = None) -> None:
        super().__init__(name)
        self.at = at

    def forward(self, t: int, **kwargs) -> None:
        if t == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


class StopsSweep(Stops):
    # Asks the process to stop that leads the sweep: the parent of the one that this job was forked from.

    def forward(self, t: int, **kwargs) -> None:
        if t == self.at:
            os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGTERM)


class SignalsOnce(Agent):
    # Sends a signal to the launcher's process, unless the file is there that it then makes.

    def __init__(self, at: int, marker: str, number: int, name: str | None = None) -> None:
        super().__init__(name)
        self.at, self.marker, self.number = at, marker, number

    def forward(self, t: int, **kwargs) -> None:
        if t == self.at and not os.path.exists(self.marker):
            open(self.marker, "x").close()
            os.kill(psutil.Process(os.getppid()).ppid(), self.number)


class Made(Agent):
    # Cannot be made, in the way that is asked for; leaves a file in the current folder when it runs.

    def __init__(self, how: str = "well", name: str | None = None) -> None:
        super().__init__(name)
        if how == "exit":
            raise SystemExit(0)
        if how == "exception":
            raise ZeroDivisionError("the agent is broken")

    def forward(self, t: int, **kwargs) -> None:
        open("here", "w").close()


class Dies(Agent):
    def __init__(self, how: str, name: str | None = None) -> None:
        super().__init__(name)
        self.how = how

    def forward(self, t: int, **kwargs) -> None:
        if t == 7 and self.how == "exit":
            os._exit(7)
        if t == 7 and self.how == "exception":
            raise ZeroDivisionError("the agent is broken")
        if t == 7 and self.how == "sys_exit":
            raise SystemExit(5)
        if t == 7 and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if t == 7 and self.how == "crash":
            ctypes.string_at(0)
        if t == 7 and self.how == "memory":
            resource.setrlimit(resource.RLIMIT_AS, (2**20, 2**20))
            bytearray(2**30)


class Ruins(Learner):
    # Leaves a parameter that is no number, and says nothing wrong.

    def __init__(self, policy: Agent) -> None:
        super().__init__()
        self.policy = policy

    def update(self, workspace, progress):
        if progress.env_steps >= 512:
            with torch.no_grad():
                next(self.policy.parameters())[0] = float("nan")
        return {"losses/policy": 1.0}


class Tells(Ruins):
    # Reports one metric.

    def __init__(self, policy: Agent, metric: str) -> None:
        super().__init__(policy)
        self.metric = metric

    def update(self, workspace, progress):
        return {self.metric: 1.0}


class Stumbles(Ruins):
    # Fails by itself, with or without the parameter that is no number.

    def __init__(self, policy: Agent, ruins: bool) -> None:
        super().__init__(policy)
        self.ruins = ruins

    def update(self, workspace, progress):
        if self.ruins:
            super().update(workspace, progress)
        if progress.env_steps >= 512:
            raise ValueError("stumbled\\nover it")
        return {}


class Shifts(Learner):
    # Changes the biases of the policy as time goes by: no algorithm, but something that can be told from nothing.

    def __init__(self, policy: Agent, step: float = 0.1, nan_after: int = 10**9, reads: str = "env/reward") -> None:
        super().__init__()
        if step <= 0:
            raise ConfigurationError(f"step={step}: above 0")
        self.policy, self.step, self.nan_after, self.reads = policy, step, nan_after, (reads,)
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def update(self, workspace, progress):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        new = workspace["env/reward"][progress.first_row + 1 :]
        self.seen += new.numel()
        with torch.no_grad():
            self.weight += self.step
            for index, parameter in enumerate(self.policy.parameters()):
                if parameter.ndim == 1:
                    parameter += self.step * torch.arange(parameter.numel()) * (-1) ** index * progress.fraction
        loss = torch.tensor(float("nan")) if progress.env_steps > self.nan_after else new.mean()
        return {"losses/shift": loss, "learner/seen": float(self.seen)}


class Endless(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 1.0, False, False, {"is_success": True}


class LostStep(gymnasium.Wrapper):
    def step(self, action):
        raise KeyError("lost")


class Opened(gymnasium.Wrapper):
    # Cannot be made, reset or closed, in the way that is asked for.

    def __init__(self, env, how: str) -> None:
        super().__init__(env)
        self.how = how
        if how == "exit":
            raise SystemExit(0)
        if how == "make":
            raise ZeroDivisionError("the wrapper is broken")

    def reset(self, **kwargs):
        if self.how == "reset":
            raise SystemExit("not today")
        return self.env.reset(**kwargs)

    def close(self):
        if self.how == "close":
            raise RuntimeError("cannot be closed")
        self.env.close()


class Unplugged(gymnasium.Wrapper):
    def __init__(self, env, at: int) -> None:
        super().__init__(env)
        self.at, self.steps = at, 0

    def step(self, action):
        self.steps += 1
        if self.steps == self.at:
            raise RuntimeError("unplugged")
        return self.env.step(action)


class SlowWhileHeld(gymnasium.Wrapper):
    # A run cannot end before the file "held" is gone.
    def step(self, action):
        if os.path.exists("held"):
            time.sleep(0.005)
        return self.env.step(action)


class NotANumber(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.steps = 0

    def reset(self, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), float("nan") if self.steps == 5 else 0.0, False, False, {}


gymnasium.register("UsersNotANumber-v0", NotANumber)
gymnasium.register("UsersEndless-v0", Endless)
"""
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("BBRL_EXP_ALLOW", "users_own")
    return "users_own"
