"""An environment worker: ``python -m bbrl_exp.envs.worker bbrl-env-worker-<i> <socket> <memory> <parent> <bound>``.

It runs the scalar kernel on its slice of the batch and does not import torch. It leaves when it is told to, and when
its parent dies in whatever way: the socket then closes, and on Linux the kernel kills it even while an environment
holds the interpreter.
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

from bbrl_exp.envs.make import make_envs
from bbrl_exp.envs.scalar import ScalarKernel
from bbrl_exp.envs.worker_protocol import (
    DONE,
    ERROR,
    LEAVE,
    RESET,
    SEED,
    STEP,
    WorkerSetup,
    receive,
    send,
    shared_arrays,
)
from bbrl_exp.errors import BbrlExpError, ConfigurationError

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Serves one parent until it goes."""
    _label, connection_number, memory, parent, bound_to_thread = arguments
    leave_with_parent(int(parent), bound_to_thread == "1")
    # The parent decides when a run ends: signals sent to the whole group must not take its workers away.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(connection_number))
    os.set_inheritable(connection.fileno(), False)
    threading.Thread(target=exit_on_hang_up, args=(connection.fileno(),), daemon=True).start()
    try:
        sys.path[:] = pickle.loads(receive(connection)[1])
        setup = pickle.loads(receive(connection)[1])
        _serve(connection, setup, int(memory))
    except (EOFError, OSError):
        return
    except Exception as error:
        send(connection, ERROR, _packed(error))


def _serve(connection: socket.socket, setup: WorkerSetup, memory: int) -> None:
    end = setup.first + setup.count
    time, *arrays = shared_arrays(memory, setup.layout)
    os.close(memory)
    actions = [array[setup.first : end] for array in arrays[: setup.n_actions]]
    rows = [array[setup.first : end] for array in arrays[setup.n_actions :]]
    envs = make_envs(setup.plan.recipe, setup.count, setup.first)
    kernel = ScalarKernel(envs, setup.plan, setup.first)
    found = (envs[0].observation_space, envs[0].action_space)
    if found != setup.spaces:
        raise ConfigurationError(f"environment {setup.first} has spaces {found}; the first one made has {setup.spaces}")
    send(connection, DONE)
    while True:
        kind, content = receive(connection)
        if kind == STEP:
            kernel.step(int(time[0]), actions, rows)
        elif kind == RESET:
            kernel.reset(int(time[0]), rows)
        elif kind == SEED:
            kernel.seed(int(content))
        elif kind == LEAVE:
            kernel.close()
            return
        send(connection, DONE)


def _packed(error: Exception) -> bytes:
    text = "".join(traceback.format_exception(error))
    try:
        return pickle.dumps((error if isinstance(error, BbrlExpError) else None, text))
    except Exception:
        return pickle.dumps((None, text))


def leave_with_parent(parent: int, bound_to_thread: bool) -> None:
    # The signal comes when the *thread* that started this process ends; only a main thread lives as long as the parent.
    if sys.platform == "linux" and bound_to_thread:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def exit_on_hang_up(descriptor: int) -> None:
    hang_up = select.poll()
    hang_up.register(descriptor, 0)
    hang_up.poll()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
