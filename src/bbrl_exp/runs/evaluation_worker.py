"""The process that evaluates: ``python -m bbrl_exp.runs.evaluation_worker bbrl-eval-worker <socket> <parent> <bound>``.

It leaves when its parent goes, in whatever way, as environment workers do.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.processes.child import exit_on_hang_up, leave_with_parent
from bbrl_exp.processes.messages import ALIVE, DONE, ERROR, receive, send

_SECONDS_BETWEEN_SIGNS = 1.0


def main(arguments: list[str]) -> None:
    """Serves one parent until it goes."""
    _label, connection_number, parent, bound_to_thread = arguments
    leave_with_parent(int(parent), bound_to_thread == "1")
    # The parent decides when a run ends: signals sent to the whole group must not take this process away.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(connection_number))
    os.set_inheritable(connection.fileno(), False)
    threading.Thread(target=exit_on_hang_up, args=(connection.fileno(),), daemon=True).start()
    try:
        _serve(connection)
    except EOFError:
        return
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        send(connection, ERROR, pickle.dumps((error if isinstance(error, BbrlExpError) else None, text)))


class SignOfLife:
    """Tells the parent now and then that an evaluation goes on; asked at every step whether to stop, it says no."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._next = 0.0

    def __call__(self) -> bool:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_SIGNS
            send(self._connection, ALIVE)
        return False


def _serve(connection: socket.socket) -> None:
    setup = json.loads(receive(connection)[1])
    sys.path[:] = setup["path"]
    import torch

    from bbrl_exp.config.targets import import_allowed_packages
    from bbrl_exp.processes.threads import set_threads
    from bbrl_exp.runs.evaluator import build_evaluator
    from bbrl_exp.training.evaluation import Evaluator

    set_threads(setup["threads"])
    import_allowed_packages()
    evaluators: dict[str, Evaluator] = {}
    while True:
        task = torch.load(io.BytesIO(receive(connection)[1]), map_location="cpu", weights_only=True)
        role = task["role"]
        if role not in evaluators:
            evaluators[role] = build_evaluator(setup["config"], role, setup["episodes"][role], device=setup["device"])
        evaluators[role].load(task["graph"])
        evaluation = evaluators[role].run(SignOfLife(connection))
        assert evaluation is not None
        send(connection, DONE, json.dumps(dataclasses.asdict(evaluation)).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
