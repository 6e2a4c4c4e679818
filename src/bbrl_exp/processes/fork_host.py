"""A process from which others are forked, one at a time: it has imported what they need, and does nothing else.

A message ``START`` starts one; ``SIGNAL`` hands it a signal; its end is answered with ``DONE``. Whatever happens to a
fork happens to a process that serves nobody else, and what that process has left behind is killed. When the connection
closes the fork is asked to stop, as by SIGTERM, and killed if it does not.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from bbrl_exp.errors import WorkerError
from bbrl_exp.processes.child import HANDED_OVER, leave_with_parent
from bbrl_exp.processes.messages import ALIVE, DONE, anonymous_file, receive, send
from bbrl_exp.processes.parent import ChildProcess

START, SIGNAL = b"J", b"S"
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_STOP = 60.0
_PREFERRED_VICTIM = "500"


class ForkHost:
    """The parent's side. The host ends with this process; a fork that runs then is asked to stop, and ends too.

    Args:
        module: what the host runs; it calls :func:`serve_forks`.
        command_label: an argument by which people find the host, and its forks, in a list of processes.
        kind: what messages call it.
    """

    def __init__(self, module: str, command_label: str, kind: str) -> None:
        self._child = ChildProcess(module, command_label, kind, [], WorkerError)
        self._is_busy = False
        self._waiting_signal: int | None = None
        weakref.finalize(self, _close, os.getpid(), self._child)

    def run(self, content: bytes, is_wanted: Callable[[], bool]) -> bytes:
        """Runs one fork to its end, and gives what the host says of it.

        Args:
            content: what the fork is to do.
            is_wanted: asked once a second; the fork is asked to stop when it is not.

        Raises:
            WorkerError: the host has died, and the fork with it.
        """
        self._child.send(START, content)
        self._is_busy = True
        was_asked = False
        try:
            if self._waiting_signal is not None:
                self.signal(self._waiting_signal)
            while not select.select([self._child.connection], [], [], _SECONDS_BETWEEN_LOOKS)[0]:
                if not was_asked and not is_wanted():
                    was_asked = True
                    self.signal(signal.SIGTERM)
            answer = self._child.receive()[1]
        finally:
            self._is_busy, self._waiting_signal = False, None
        with contextlib.suppress(WorkerError):  # the fork has ended in any case; the next one finds out
            self._child.send(ALIVE)
        return answer

    def signal(self, number: int) -> None:
        """Hands a signal to the fork that runs, or that is about to."""
        if self._is_busy:
            self._child.send(SIGNAL, number.to_bytes())
        else:
            self._waiting_signal = number


def serve_forks(
    arguments: list[str],
    before: Callable[[bytes], None],
    work: Callable[[bytes], tuple[int, Any]],
    after: Callable[[int, Any], bytes],
) -> None:
    """The host's side: serves until the connection closes.

    Args:
        arguments: of the command line.
        before: is called in the host, with the content of a START, before the fork.
        work: is called in the fork, with the same; gives its exit code and a report that JSON can hold.
        after: is called in the host, with the exit code (negative: the signal that killed the fork) and the report,
            None where the fork left none; gives the answer.
    """
    connection = socket.socket(fileno=int(arguments[1]))
    os.set_inheritable(connection.fileno(), False)
    for number in HANDED_OVER:
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            kind, content = receive(connection)
        except (EOFError, OSError):
            return
        if kind == START:
            before(content)
            serve_fork(connection, content, work, after)


def serve_fork(
    connection: socket.socket,
    content: bytes,
    work: Callable[[bytes], tuple[int, Any]],
    after: Callable[[int, Any], bytes],
) -> None:
    """Runs one fork to its end; see :func:`serve_forks`."""
    report = anonymous_file("report", 0)
    # A signal that comes before the new process has set its dispositions waits until it has.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_OVER)
    host = os.getpid()
    process = os.fork()
    if process == 0:
        connection.close()
        _become_fork(report, host, content, work)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_OVER)
    ended = threading.Event()
    waiting = threading.Thread(target=_answer, args=(connection, process, report, ended, after))
    waiting.start()
    try:
        while not ended.is_set():
            kind, message = receive(connection)
            if kind == SIGNAL:
                with contextlib.suppress(ProcessLookupError):  # it ended just now
                    if not ended.is_set():
                        os.kill(process, int.from_bytes(message))
            else:  # the parent has heard that this fork has ended
                break
    except (EOFError, OSError):
        _stop(process, ended)
    waiting.join()


def _stop(process: int, ended: threading.Event) -> NoReturn:
    """Nobody is there any more: the fork saves, and everything ends."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        if ended.wait(_SECONDS_TO_STOP):
            break
    os._exit(0)


def _answer(
    connection: socket.socket, process: int, report: int, ended: threading.Event, after: Callable[[int, Any], bytes]
) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    ended.set()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # what it has left behind, if anything
        os.killpg(process, signal.SIGKILL)
    with open(report, "rb") as file:
        file.seek(0)
        written = file.read()
    try:
        found = json.loads(written)
    except ValueError:  # it was killed before it had written all
        found = None
    answer = after(code, found)
    with contextlib.suppress(OSError):
        send(connection, DONE, answer)


def _become_fork(report: int, host: int, content: bytes, work: Callable[[bytes], tuple[int, Any]]) -> NoReturn:
    """Works in this forked process; it never returns."""
    code = 1
    try:
        _prepare(host)
        code, found = work(content)
        os.write(report, json.dumps(found).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _prepare(host: int) -> None:
    os.setsid()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_PREFERRED_VICTIM)
    for number in HANDED_OVER:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_OVER)
    leave_with_parent(host, signal.SIGTERM)
    faulthandler.enable()


def _close(owner: int, child: ChildProcess) -> None:
    if os.getpid() == owner:
        child.connection.close()
        child.process.wait()
