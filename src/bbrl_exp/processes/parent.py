"""The parent's side: starts a process, names it in every error, and never leaves one behind."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

from bbrl_exp.errors import WorkerError
from bbrl_exp.processes.messages import ERROR, LEAVE, SETUP, receive, send

GRACE_SECONDS = 2.0
_SAFE_PATH = "PYTHONSAFEPATH"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def _is_in_current_folder() -> bool:
    """Whether this package itself is imported from the current folder, as from that of a script."""
    return os.path.dirname(_PACKAGE) == os.getcwd()


@contextlib.contextmanager
def without_current_folder() -> Iterator[None]:
    """Processes that a library starts by ``python -m`` meanwhile import nothing that is in the current folder."""
    if _is_in_current_folder() or _SAFE_PATH in os.environ:
        yield
        return
    os.environ[_SAFE_PATH] = __name__
    try:
        yield
    finally:
        forget_safe_path()


def forget_safe_path() -> None:
    """Ends :func:`without_current_folder` for the processes of this process, such as those of user code."""
    if os.environ.get(_SAFE_PATH) == __name__:
        del os.environ[_SAFE_PATH]


class ChildProcess:
    """One process, ``python -m <module> <label> <socket> <parent> <bound> <descriptors…>``, and the socket to it.

    Args:
        module: what it runs.
        command_label: an argument by which people find it in a list of processes.
        kind: what messages call it, ``"environment worker 3"``.
        descriptors: open files that it inherits; their numbers are its last arguments.
        error: the class of the errors of a child that died, was stuck or raised.

    Attributes:
        doing: the end of the messages of a child that died or is stuck: what it was doing.
    """

    def __init__(
        self, module: str, command_label: str, kind: str, descriptors: Sequence[int], error: type[WorkerError]
    ) -> None:
        self._kind = kind
        self._error = error
        self.doing = ""
        self.connection, child_side = socket.socketpair()
        bound_to_thread = threading.current_thread() is threading.main_thread()
        numbers = [child_side.fileno(), os.getpid(), int(bound_to_thread), *descriptors]
        with child_side:
            options = ["-m"] if _is_in_current_folder() else ["-P", "-m"]
            self.process = subprocess.Popen(
                [sys.executable, *options, module, command_label, *map(str, numbers)],
                pass_fds=(child_side.fileno(), *descriptors),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **SINGLE_THREADED},
            )

    @property
    def label(self) -> str:
        """How messages call it: what it is, its index and its process id."""
        return f"{self._kind} (pid {self.process.pid})"

    def set_up(self, setup: bytes) -> None:
        """Sends what :func:`~bbrl_exp.processes.child.serve` waits for; user code is importable there as it is here.

        Raises:
            WorkerError: the process has died.
        """
        self.send(SETUP, pickle.dumps(sys.path))
        self.send(SETUP, setup)

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Sends one message.

        Raises:
            WorkerError: the process has died.
        """
        with self._gone_is_an_error():
            send(self.connection, kind, content)

    def receive(self) -> tuple[bytes, bytes]:
        """Waits for one message, (kind, content), and raises what the process raised.

        Raises:
            WorkerError: the process has died, or raised an error that is not one of this project's.
        """
        with self._gone_is_an_error():
            kind, content = receive(self.connection)
        if kind != ERROR:
            return kind, content
        error, text = pickle.loads(content)
        if error is not None:
            error.add_note(f"in {self.label}")
            raise error
        raise self._error(f"{self.label} raised {text}")

    def check_alive(self) -> None:
        """Raises the error of a process that has died.

        Raises:
            WorkerError: it has.
        """
        if self.process.poll() is not None:
            self._raise_dead()

    def raise_stuck(self, timeout: float, option: str) -> NoReturn:
        """Raises the error of a process that has not answered for ``timeout`` seconds, the value of ``option``."""
        raise self._error(f"{self.label} is stuck: no answer for {timeout:g} s ({option}){self.doing}")

    def close(self) -> None:
        """Gives back what this process holds of a child that has ended."""
        self.connection.close()

    @contextlib.contextmanager
    def _gone_is_an_error(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self.raise_stuck(self.connection.gettimeout() or 0.0, "timeout")
        except (EOFError, OSError):
            self._raise_dead()

    def _raise_dead(self) -> NoReturn:
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            raise self._error(f"{self.label} closed its connection{self.doing}") from None
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"
        raise self._error(f"{self.label} died: {how}{self.doing}") from None


def end_all(owner: int, children: Sequence[ChildProcess], grace: float = GRACE_SECONDS) -> None:
    """Ends processes; one that does not leave within ``grace`` seconds is killed.

    Args:
        owner: process id of the one that started them. A forked copy of it inherits finalizers, but not the children.
        children: the processes.
        grace: seconds they have; 0 for processes that hold nothing worth saving.
    """
    if os.getpid() != owner:
        return
    for child in children:
        child.connection.settimeout(grace)
        with contextlib.suppress(OSError):
            send(child.connection, LEAVE)
    deadline = time.monotonic() + grace
    for child in children:
        try:
            child.process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        child.close()
