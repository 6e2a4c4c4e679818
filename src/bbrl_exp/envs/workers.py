"""Environments in worker processes, several in each, over shared memory: the same rows as ``scalar`` to the bit."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import cloudpickle
import gymnasium
import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.plan import BatchPlan
from bbrl_exp.envs.rows import row_layout
from bbrl_exp.envs.spaces import space_leaves
from bbrl_exp.envs.worker_protocol import (
    DONE,
    LEAVE,
    RESET,
    SEED,
    STEP,
    Layout,
    WorkerSetup,
    receive,
    send,
    shared_arrays,
    shared_file,
)
from bbrl_exp.errors import ConfigurationError, WorkerError

Rows = Sequence[NDArray[Any]]

_STARTUP_SECONDS = 120.0
_GRACE_SECONDS = 2.0
_LOOK_EVERY_MS = 200
_SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


class WorkersKernel:
    """Steps a batch in ``n_workers`` processes, which carry ``bbrl-env-worker-<i>`` in their command lines.

    After any error all workers are ended.

    Args:
        plan: the batch.
        spaces: the observation and the action space of an environment.
        n_workers: number of processes, at most one an environment.
        timeout: seconds after which a step that has not come back is an error.

    Raises:
        ConfigurationError: more workers than environments, or an environment that cannot be made.
        WorkerError: a worker that died, was stuck or raised.
    """

    def __init__(
        self,
        plan: BatchPlan,
        spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]],
        n_workers: int,
        timeout: float,
    ) -> None:
        if n_workers > plan.batch_size:
            raise ConfigurationError(
                f"workers={n_workers}: there are only {plan.batch_size} environments; possible: 1 … {plan.batch_size}"
            )
        self._timeout = timeout
        actions = space_leaves(spaces[1], "action")
        rows = row_layout(space_leaves(spaces[0], "env/env_obs"), plan.info, plan.batch_size)
        layout: Layout = (
            ((1,), "int64"),
            *(((plan.batch_size, *leaf.shape), leaf.dtype) for leaf in actions),
            *((shape, dtype.name) for shape, dtype in rows.values()),
        )
        memory = shared_file(layout)
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _end, os.getpid(), self._workers)
        try:
            self._time, *arrays = shared_arrays(memory, layout)
            self._actions, self._rows = arrays[: len(actions)], arrays[len(actions) :]
            bounds = np.linspace(0, plan.batch_size, n_workers + 1).astype(int).tolist()
            for index, (first, end) in enumerate(pairwise(bounds)):
                self._workers.append(_Worker(index, memory))
                setup = WorkerSetup(plan, first, end - first, spaces, len(actions), layout)
                self._workers[-1].set_up(setup)
            self._poll = select.poll()
            for worker in self._workers:
                self._poll.register(worker.connection.fileno(), select.POLLIN)
            self._await_all(_STARTUP_SECONDS)
        except BaseException:
            self._kill()
            raise
        finally:
            os.close(memory)

    def seed(self, seed: int) -> None:
        """See :class:`~bbrl_exp.envs.plan.Kernel`."""
        self._command(SEED, str(int(seed)).encode())

    def reset(self, t: int, rows: Rows) -> None:
        """See :class:`~bbrl_exp.envs.plan.Kernel`."""
        self._time[0] = t
        self._command(RESET)
        self._copy_to(rows)

    def step(self, t: int, actions: Rows, rows: Rows) -> None:
        """See :class:`~bbrl_exp.envs.plan.Kernel`."""
        self._time[0] = t
        for shared, values in zip(self._actions, actions, strict=True):
            shared[...] = values
        self._command(STEP)
        self._copy_to(rows)

    def close(self) -> None:
        """See :class:`~bbrl_exp.envs.plan.Kernel`. A worker that does not leave within two seconds is killed."""
        self._finalizer()

    def _copy_to(self, rows: Rows) -> None:
        for row, shared in zip(rows, self._rows, strict=True):
            row[...] = shared

    def _command(self, kind: bytes, content: bytes = b"") -> None:
        if not self._finalizer.alive:
            raise WorkerError("the environment workers have been closed")
        try:
            for worker in self._workers:
                with worker.gone_is_an_error():
                    send(worker.connection, kind, content)
            self._await_all(self._timeout)
        except BaseException:
            self._kill()
            raise

    def _await_all(self, timeout: float) -> None:
        by_descriptor = {worker.connection.fileno(): worker for worker in self._workers}
        pending = set(by_descriptor)
        deadline = time.monotonic() + timeout
        while pending:
            events = self._poll.poll(_LOOK_EVERY_MS)
            for descriptor, _ in events:
                by_descriptor[descriptor].take_reply()
                pending.discard(descriptor)
            if events:
                continue
            for descriptor in sorted(pending):
                worker = by_descriptor[descriptor]
                if worker.process.poll() is not None:
                    worker.raise_dead()
                if time.monotonic() > deadline:
                    raise WorkerError(f"{worker.label} is stuck: no answer for {timeout:g} s (worker_timeout)")

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        self._finalizer()


class _Worker:
    """One process and the socket to it."""

    def __init__(self, index: int, memory: int) -> None:
        self.index = index
        self.connection, child_side = socket.socketpair()
        bound_to_thread = threading.current_thread() is threading.main_thread()
        arguments = [str(child_side.fileno()), str(memory), str(os.getpid()), str(int(bound_to_thread))]
        with child_side:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bbrl_exp.envs.worker", f"bbrl-env-worker-{index}", *arguments],
                pass_fds=(child_side.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_SINGLE_THREADED},
            )

    @property
    def label(self) -> str:
        return f"environment worker {self.index} (pid {self.process.pid})"

    def set_up(self, setup: WorkerSetup) -> None:
        """Sends what the process needs to begin; user code is then importable there as it is here."""
        with self.gone_is_an_error():
            send(self.connection, STEP, pickle.dumps(sys.path))
            send(self.connection, STEP, cloudpickle.dumps(setup))

    def take_reply(self) -> None:
        """Receives an answer, and raises what the worker raised."""
        with self.gone_is_an_error():
            kind, content = receive(self.connection)
        if kind == DONE:
            return
        error, text = pickle.loads(content)
        if error is not None:
            error.add_note(f"in {self.label}")
            raise error
        raise WorkerError(f"{self.label} raised:\n{text}")

    @contextlib.contextmanager
    def gone_is_an_error(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):
            self.raise_dead()

    def raise_dead(self) -> NoReturn:
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            raise WorkerError(f"{self.label} closed its connection") from None
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"
        raise WorkerError(f"{self.label} died: {how}") from None


def _end(owner: int, workers: Sequence[_Worker]) -> None:
    # A forked copy of the parent inherits the finalizer, but not the workers.
    if os.getpid() != owner:
        return
    for worker in workers:
        with contextlib.suppress(OSError):
            send(worker.connection, LEAVE)
    deadline = time.monotonic() + _GRACE_SECONDS
    for worker in workers:
        try:
            worker.process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.connection.close()
