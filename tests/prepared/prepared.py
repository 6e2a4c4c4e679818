"""Processes that begin like ``python …``, forked from an interpreter that has imported everything.

A start costs no seconds. What depends on how an interpreter starts, such as its hash seed or the order of its imports,
needs a :mod:`subprocess` of its own.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import fast_children
import psutil
import pytest

ROOT = Path(__file__).parents[2]
MODULE = ["-m", "bbrl_exp"]
RUN = [str(ROOT / "scripts" / "run.py")]
_LONGEST = 240.0
_ENVIRONMENT = dict(os.environ)  # without what a test has set


class Process:
    """A process forked from the prepared interpreter, with what it prints in two files.

    Attributes:
        pid: its id.
    """

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid, self._folder = pid, folder
        self._code: int | None = None

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return (self._folder / "stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has printed on standard error so far."""
        return (self._folder / "stderr").read_text(encoding="utf-8")

    def send(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._code is not None or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE

    def wait_for(self, text: str) -> None:
        """Waits until it has printed a text; one that ends without it fails the test."""
        self._wait(lambda: text in self.stdout or self.is_over())
        assert text in self.stdout, self.stderr

    def wait(self) -> int:
        """Its exit code (negative: the signal that ended it) once it has ended; one that hangs fails the test."""
        self._wait(self.is_over)
        if self._code is None:
            self._code = _interpreter().ask(self.pid)
        return self._code

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _LONGEST
        while not condition():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                pytest.fail(f"the process hangs: {self.stdout}\n{self.stderr}")
            time.sleep(0.005)


def start(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None, *, own_session: bool = False
) -> Process:
    """Starts ``python <words>`` in a folder.

    Args:
        words: ``[-W error] (-m module | -c code | script) arguments…``.
        environment: all variables; None for those of this process.
        own_session: makes it the leader of a session, and of a group of processes, of its own.
    """
    printed = Path(tempfile.mkdtemp(dir=_interpreter().folder))
    request = {
        "words": list(words),
        "cwd": str(cwd),
        "environment": dict(os.environ if environment is None else environment),
        "stdout": str(printed / "stdout"),
        "stderr": str(printed / "stderr"),
        "own_session": own_session,
    }
    for name in ("stdout", "stderr"):
        (printed / name).touch()
    return Process(_interpreter().ask(request), printed)


def run(words: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Runs ``python <words>`` in a folder to its end; see :func:`start`."""
    process = start(words, cwd, environment)
    process.wait()
    return process


class _Interpreter:
    """The prepared interpreter; it ends with this process, and what was printed is removed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="prepared_")
        self.folder = self._folder.name
        self.nursery, of_nursery = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("interpreter.py")), str(of_nursery.fileno())],
            pass_fds=(of_nursery.fileno(),),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            text=True,
        )
        of_nursery.close()
        atexit.register(self._close)

    def _close(self) -> None:
        self.nursery.close()
        self._process.communicate()
        self._folder.cleanup()

    def ask(self, request: object) -> int:
        """Its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@functools.cache
def _interpreter() -> _Interpreter:
    return _Interpreter()


def fork_children() -> None:
    """Lets this process fork, too, what it would start by ``python -m``."""
    if fast_children.CLONE is not None:
        fast_children.fork_in(lambda: _interpreter().nursery)
