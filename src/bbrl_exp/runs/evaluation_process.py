"""Evaluation in a process of its own, beside the training: the parent hands it policies and takes results."""

from __future__ import annotations

import io
import json
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
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bbrl_exp.errors import WorkerError
from bbrl_exp.processes.messages import ALIVE, DONE, ERROR, receive, send

if TYPE_CHECKING:
    from bbrl_exp.config.check import CheckedRun
    from bbrl_exp.runs.evaluations import Done, EvaluationPlan, Task

SETUP, TASK = b"U", b"T"
_STARTUP_SECONDS = 60.0
_LOOK_EVERY_MS = 200


class EvaluationProcess:
    """A process that carries ``bbrl-eval-worker`` in its command line; it does one task after the other.

    It starts with the first task, and ends when it is closed or when this process ends in whatever way.

    Args:
        run: the configuration.
        plan: of its evaluations.
        stopped: whether the run was asked to stop.
    """

    def __init__(self, run: CheckedRun, plan: EvaluationPlan, stopped: Callable[[], bool]) -> None:
        self._run, self._plan, self._stopped = run, plan, stopped
        self._waiting: deque[Task] = deque()
        self._running: Task | None = None
        self._done: list[Done] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._poll = select.poll()
        self._timeout = _STARTUP_SECONDS + run.root.env["worker_timeout"]
        self._last_word = 0.0

    @property
    def has_pending(self) -> bool:
        """See :class:`~bbrl_exp.runs.evaluations.Place`."""
        return self._running is not None or bool(self._waiting)

    def pending(self) -> list[Task]:
        """See :class:`~bbrl_exp.runs.evaluations.Place`."""
        return [*([] if self._running is None else [self._running]), *self._waiting]

    def submit(self, task: Task) -> None:
        """Hands the task over, at once or when the process is free.

        Raises:
            WorkerError: the process has died, or an evaluation failed in it.
        """
        self._waiting.append(task)
        self._look(0)

    def arrived(self) -> list[Done]:
        """See :class:`~bbrl_exp.runs.evaluations.Place`.

        Raises:
            WorkerError: as :meth:`submit`.
        """
        self._look(0)
        done, self._done = self._done, []
        return done

    def wait(self) -> bool:
        """See :class:`~bbrl_exp.runs.evaluations.Place`.

        Raises:
            WorkerError: as :meth:`submit`.
        """
        while self.has_pending:
            if self._stopped():
                return False
            self._look(_LOOK_EVERY_MS)
        return True

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._finalizer()
            self._process = None

    def _look(self, milliseconds: int) -> None:
        """Takes the result that is there, and hands the next task over."""
        while self._running is not None and self._poll.poll(milliseconds):
            kind, content = self._word()
            self._timeout = self._run.root.env["worker_timeout"]
            if kind != ALIVE:
                self._done.append((self._running, self._result(kind, content)))
                self._running = None
        if self._running is not None and time.monotonic() - self._last_word > self._timeout:
            raise self._stall()
        if self._running is None and self._waiting:
            if self._process is None:
                self._start()
            self._running = self._waiting.popleft()
            self._last_word = time.monotonic()
            self._send(TASK, self._packed(self._running))

    def _packed(self, task: Task) -> bytes:
        import torch

        contents = io.BytesIO()
        torch.save({"role": task.role, "graph": task.policy["graph"]}, contents)
        return contents.getvalue()

    def _word(self) -> tuple[bytes, bytes]:
        """The next message of the process."""
        assert self._connection is not None
        self._last_word = time.monotonic()
        try:
            return receive(self._connection)
        except (EOFError, OSError) as error:
            raise self._death() from error

    def _result(self, kind: bytes, content: bytes) -> Any:
        from bbrl_exp.training.evaluation import Evaluation

        if kind == ERROR:
            known, text = pickle.loads(content)
            if known is not None:
                raise known
            raise WorkerError(f"the evaluation worker failed: {text.strip().splitlines()[-1]}\n{text}")
        assert kind == DONE
        found = json.loads(content)
        successes = found["successes"]
        return Evaluation(
            tuple(found["returns"]),
            tuple(found["lengths"]),
            None if successes is None else tuple(successes),
            found["n_cut"],
        )

    def _send(self, kind: bytes, content: bytes) -> None:
        assert self._connection is not None
        try:
            send(self._connection, kind, content)
        except OSError as error:
            raise self._death() from error

    def _death(self) -> WorkerError:
        assert self._process is not None
        code = self._process.wait(10)
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"
        return WorkerError(f"the evaluation worker (pid {self._process.pid}) died, {how}{self._doing()}")

    def _stall(self) -> WorkerError:
        assert self._process is not None
        return WorkerError(
            f"the evaluation worker (pid {self._process.pid}) is stuck: no sign of life for {self._timeout:g} s "
            f"(env.worker_timeout){self._doing()}"
        )

    def _doing(self) -> str:
        return "" if self._running is None else f" while it evaluated the policy of step {self._running.env_steps:,}"

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        bound = threading.current_thread() is threading.main_thread()
        arguments = ["bbrl-eval-worker", str(theirs.fileno()), str(os.getpid()), str(int(bound))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bbrl_exp.runs.evaluation_worker", *arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection = ours
        self._poll.register(ours.fileno(), select.POLLIN)
        self._finalizer = weakref.finalize(self, _end, os.getpid(), self._process, ours)
        episodes = {role: self._plan.episodes_of(role) for role in ("eval", "final_eval")}
        setup = {
            "path": sys.path,
            "config": self._run.config,
            "device": self._run.device,
            "threads": self._run.root.num_threads,
            "episodes": episodes,
        }
        self._send(SETUP, json.dumps(setup).encode())


def _end(owner: int, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """Ends the process, which holds nothing that it would have to save; a fork of its owner leaves it alone."""
    connection.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
