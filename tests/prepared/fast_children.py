"""Processes that bbrl_exp starts by ``python -m``, forked in a nursery: a start takes no seconds.

Environment workers, which do not import torch, and remote agents start as they always do.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence

# The number of the system call clone; elsewhere all processes start as they always do.
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine()) if sys.platform == "linux" else None
_FORKED = ("bbrl_exp.runs.job_host", "bbrl_exp.runs.evaluation_worker")


def fork_in(nursery: socket.socket | Callable[[], socket.socket]) -> None:
    """From now on this process starts its children so, in a nursery to which there is a socket."""
    from bbrl_exp.processes import parent

    def popen(
        words: Sequence[str], *, pass_fds: Sequence[int], stdin: int, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        if not set(words) & set(_FORKED):
            return subprocess.Popen(words, pass_fds=pass_fds, stdin=stdin, env=env)
        connection = nursery if isinstance(nursery, socket.socket) else nursery()
        descriptors = [1, 2, *pass_fds]
        request = {
            "words": list(words[1:]),
            "cwd": os.getcwd(),
            "environment": dict(env),
            "descriptors": descriptors,
        }
        sys.stdout.flush()
        socket.send_fds(connection, [json.dumps(request).encode()], descriptors)
        return _child(int(connection.recv(100)), words)

    parent.subprocess = types.SimpleNamespace(  # type: ignore[attr-defined]
        Popen=popen, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )


def _child(pid: int, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """What ``subprocess`` makes of a child that it has started."""
    process: subprocess.Popen[bytes] = subprocess.Popen.__new__(subprocess.Popen)
    vars(process).update(
        pid=pid,
        args=words,
        returncode=None,
        stdin=None,
        stdout=None,
        stderr=None,
        _child_created=True,
        _waitpid_lock=threading.Lock(),
    )
    return process
