"""The child's side: it leaves when it is told to, and when its parent dies in whatever way.

The socket closes when the parent goes; on Linux the kernel kills the child besides, even while foreign code holds the
interpreter. No torch here.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import socket
import sys
import threading
import traceback

from bbrl_exp.errors import BbrlExpError

_PR_SET_PDEATHSIG = 1


def connect(connection_number: int, parent: int, bound_to_thread: bool) -> socket.socket:
    """Binds this process to the life of its parent and gives the socket to it.

    Args:
        connection_number: descriptor of the socket.
        parent: process id of the parent.
        bound_to_thread: whether the parent's main thread started this process.
    """
    leave_with_parent(parent, bound_to_thread)
    # The parent decides when a run ends: signals sent to the whole group must not take its workers away.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=connection_number)
    os.set_inheritable(connection.fileno(), False)
    threading.Thread(target=exit_on_hang_up, args=(connection.fileno(),), daemon=True).start()
    return connection


def leave_with_parent(parent: int, bound_to_thread: bool) -> None:
    """Asks the kernel to kill this process with its parent; leaves at once if that has gone already."""
    # The signal comes when the *thread* that started this process ends; only a main thread lives as long as the parent.
    if sys.platform == "linux" and bound_to_thread:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def exit_on_hang_up(descriptor: int) -> None:
    """Waits until the other side of the socket is closed, and ends the process."""
    hang_up = select.poll()
    hang_up.register(descriptor, 0)
    hang_up.poll()
    os._exit(0)


def packed_error(error: Exception) -> bytes:
    """The content of an ERROR message: an error of this project as it is, of any other its traceback as text."""
    text = "".join(traceback.format_exception(error))
    try:
        return pickle.dumps((error if isinstance(error, BbrlExpError) else None, text))
    except Exception:
        return pickle.dumps((None, text))
