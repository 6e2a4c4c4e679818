"""The child's side: it ends when it is asked to, and when its parent dies for any reason.

The socket closes when the parent goes; on Linux the kernel also kills the child, even while foreign code holds the
interpreter. No torch here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.processes.messages import ERROR, receive, send

_PR_SET_PDEATHSIG = 1
HANDED_OVER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def serve(arguments: list[str], work: Callable[..., object]) -> None:
    """The main function of a process that a :class:`~bbrl_exp.processes.parent.ChildProcess` starts and sets up.

    Args:
        arguments: of the command line.
        work: is called with the socket, the setup (bytes) and the numbers of inherited files. Whatever it raises, a
            SystemExit of user code included, comes out in the parent.
    """
    _label, connection_number, parent, bound_to_thread, *descriptors = arguments
    connection = _connect(int(connection_number), int(parent), bound_to_thread == "1")
    try:
        sys.path[:] = pickle.loads(receive(connection)[1])
        work(connection, receive(connection)[1], *map(int, descriptors))
    except BaseException as error:
        with contextlib.suppress(OSError):  # the parent has gone: that was the error
            send(connection, ERROR, _packed_error(error))


def leave_with_parent(parent: int, number: int | None) -> None:
    """Asks the kernel to send signal ``number`` when the parent ends; leaves at once if that has ended already."""
    if sys.platform == "linux" and number is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _connect(connection_number: int, parent: int, bound_to_thread: bool) -> socket.socket:
    """Binds this process to the life of its parent and gives the socket to it.

    Args:
        connection_number: descriptor of the socket.
        parent: process id of the parent.
        bound_to_thread: whether the parent's main thread started this process.
    """
    # The signal comes when the *thread* that started this process ends; only a main thread lives as long as the parent.
    leave_with_parent(parent, signal.SIGKILL if bound_to_thread else None)
    # The parent decides when a run ends: signals sent to the whole group must not take its workers away.
    for number in HANDED_OVER:
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=connection_number)
    os.set_inheritable(connection.fileno(), False)
    threading.Thread(target=_exit_on_hang_up, args=(connection.fileno(),), daemon=True).start()
    return connection


def _packed_error(error: BaseException) -> bytes:
    """The content of an ERROR message: an error of this project as it is, any other as text, in a line and in full."""
    said = traceback.format_exception_only(error)[0].strip()
    text = f"{said}\n{''.join(traceback.format_exception(error))}"
    try:
        return pickle.dumps((error if isinstance(error, BbrlExpError) else None, text))
    except Exception:
        return pickle.dumps((None, text))


def _exit_on_hang_up(descriptor: int) -> None:
    hang_up = select.poll()
    hang_up.register(descriptor, 0)
    hang_up.poll()
    os._exit(0)
