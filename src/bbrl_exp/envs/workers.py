"""Environments in worker processes, several in each, over shared memory: the same rows as ``scalar`` bit for bit."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.batch import BatchSetup
from bbrl_exp.envs.episode_state import joined, part_of
from bbrl_exp.envs.rows import row_layout
from bbrl_exp.envs.worker_protocol import (
    FORGET,
    LOAD,
    RESET,
    SEED,
    STATE,
    STEP,
    Layout,
    WorkerSetup,
    shared_arrays,
    shared_file,
)
from bbrl_exp.errors import WorkerError
from bbrl_exp.processes.crew import Crew
from bbrl_exp.processes.parent import ChildProcess

Rows = Sequence[NDArray[Any]]

_STARTUP_SECONDS = 120.0
_ACTIONS_PER_TIMEOUT = 1000


class WorkersKernel:
    """Steps a batch in ``n_workers`` processes, which carry ``bbrl-env-worker-<i>`` in their command lines.

    After any error all workers are ended.

    Args:
        batch: the batch.
        spaces: the observation and the action space of an environment.
        n_workers: number of processes, at most one per environment.
        timeout: seconds after which a step that has not come back is an error.

    Raises:
        ConfigurationError: an environment that cannot be made.
        WorkerError: a worker that died, was stuck or raised.
    """

    def __init__(
        self,
        batch: BatchSetup,
        spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]],
        n_workers: int,
        timeout: float,
    ) -> None:
        self._timeout = timeout
        observations, actions = batch.leaves(spaces)
        rows = row_layout(observations, batch.info, batch.batch_size)
        layout: Layout = (
            ((1,), "int64"),
            *(((batch.batch_size, *leaf.shape), leaf.dtype) for leaf in actions),
            *((shape, dtype.name) for shape, dtype in rows.values()),
        )
        memory = shared_file(layout)
        self._crew = Crew("worker_timeout")
        try:
            self._time, *arrays = shared_arrays(memory, layout)
            self._actions, self._rows = arrays[: len(actions)], arrays[len(actions) :]
            bounds = np.linspace(0, batch.batch_size, n_workers + 1).astype(int).tolist()
            self._slices = list(pairwise(bounds))
            for index, (first, end) in enumerate(self._slices):
                label = f"bbrl-env-worker-{index}"
                kind = f"environment worker {index}"
                worker = ChildProcess("bbrl_exp.envs.worker", label, kind, (memory,), WorkerError)
                setup = WorkerSetup(batch, first, end - first, spaces, len(actions), layout)
                self._crew.add(worker, cloudpickle.dumps(setup), _STARTUP_SECONDS)
            self._crew.wait()
        except BaseException:
            self._crew.kill()
            raise
        finally:
            os.close(memory)

    def seed(self, seed: int) -> None:
        self._command(SEED, str(int(seed)).encode())

    def reset(self, t: int, rows: Rows) -> None:
        self._time[0] = t
        self._command(RESET)
        self._copy_to(rows)

    def step(self, t: int, actions: Rows, rows: Rows) -> None:
        self._time[0] = t
        for shared, values in zip(self._actions, actions, strict=True):
            shared[...] = values
        self._command(STEP)
        self._copy_to(rows)

    def forget_actions(self) -> None:
        self._command(FORGET)

    def state(self) -> dict[str, Any]:
        """That of the scalar kernel, for any number of workers."""
        return joined([pickle.loads(part) for part in self._command(STATE)])

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The workers have the timeout once for every thousand actions."""
        parts = [pickle.dumps(part_of(state, first, stop)) for first, stop in self._slices]
        n_timeouts = 1 + int(state["n_actions"].sum()) // _ACTIONS_PER_TIMEOUT
        self._send_and_await(LOAD, parts, self._timeout * n_timeouts)

    def close(self) -> None:
        """A worker that does not leave within two seconds is killed."""
        self._crew.close()

    def _copy_to(self, rows: Rows) -> None:
        for row, shared in zip(rows, self._rows, strict=True):
            row[...] = shared

    def _command(self, kind: bytes, content: bytes = b"") -> list[bytes]:
        return self._send_and_await(kind, [content] * len(self._slices), self._timeout)

    def _send_and_await(self, kind: bytes, contents: Sequence[bytes], timeout: float) -> list[bytes]:
        if not self._crew.is_open:
            raise WorkerError("the environment workers have been closed")
        self._crew.ask(kind, dict(enumerate(contents)), timeout)
        return self._crew.wait()
