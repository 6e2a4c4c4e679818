"""Chooses how a batch is stepped, and makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium

from bbrl_exp.arguments import ABOVE_0, COUNT_FROM_0
from bbrl_exp.envs.batch import BatchSetup, Kernel
from bbrl_exp.envs.make import close_env, make_envs
from bbrl_exp.envs.scalar import ScalarKernel
from bbrl_exp.envs.vectorized import VectorizedKernel
from bbrl_exp.envs.workers import WorkersKernel
from bbrl_exp.errors import ConfigurationError, did_you_mean

Stepping = Literal["auto", "scalar", "workers", "vectorized"]


@dataclass(frozen=True, eq=False)
class OpenBatch:
    """A batch that has been made.

    Attributes:
        kernel: what steps it.
        spaces: the observation and the action space of one environment.
        max_episode_steps: the time limit in steps, None if there is none.
    """

    kernel: Kernel
    spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]]
    max_episode_steps: int | None


def check_stepping(batch_size: int, stepping: str = "auto", workers: int = 0, worker_timeout: float = 60.0) -> None:
    """Refuses arguments that are not possible, or not together; makes nothing.

    Raises:
        ConfigurationError: the argument, and what it may be.
    """
    known = get_args(Stepping)
    if stepping not in known:
        near = did_you_mean(str(stepping), known)
        raise ConfigurationError(f"stepping={stepping!r}: must be one of {', '.join(known)}{near}")
    COUNT_FROM_0.check(workers=workers)
    ABOVE_0.check(worker_timeout=worker_timeout)
    if workers and stepping not in ("auto", "workers"):
        raise ConfigurationError(f"workers={workers}: must be 0 with stepping={stepping}")
    if workers > batch_size:
        raise ConfigurationError(f"workers={workers}: must be at most batch_size, which is {batch_size}")
    if stepping == "workers" and not workers:
        raise ConfigurationError(f"workers={workers}: must be at least 1 with stepping=workers")


def open_kernel(setup: BatchSetup, stepping: Stepping, workers: int, worker_timeout: float) -> OpenBatch:
    """Makes the environments of ``setup``.

    Raises:
        ConfigurationError: arguments that contradict each other, or environments that cannot be made.
        WorkerError: a worker that cannot be started.
    """
    check_stepping(setup.batch_size, stepping, workers, worker_timeout)
    if stepping == "auto":
        stepping = "workers" if workers else "scalar"
    if stepping == "vectorized":
        vectorized = VectorizedKernel(setup)
        return OpenBatch(vectorized, vectorized.spaces, vectorized.max_episode_steps)
    envs = make_envs(setup.recipe, 1 if stepping == "workers" else setup.batch_size)
    spaces = (envs[0].observation_space, envs[0].action_space)
    limit = envs[0].spec.max_episode_steps if envs[0].spec is not None else None
    if stepping == "scalar":
        return OpenBatch(ScalarKernel(envs, setup), spaces, limit)
    close_env(envs[0], setup.recipe.name)
    return OpenBatch(WorkersKernel(setup, spaces, workers, worker_timeout), spaces, limit)
