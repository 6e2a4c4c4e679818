"""The process that evaluates: ``python -m bbrl_exp.runs.evaluation_worker bbrl-eval-worker <socket> …``."""

from __future__ import annotations

import io
import pickle
import socket
import sys
import time
from typing import TYPE_CHECKING

from bbrl_exp.processes.child import serve
from bbrl_exp.processes.messages import ALIVE, DONE, LEAVE, receive, send

if TYPE_CHECKING:
    from bbrl_exp.training.evaluation import Evaluator

_SECONDS_BETWEEN_SIGNS = 1.0


class SignOfLife:
    """Reports to the parent now and then that an evaluation makes progress; never asks to stop."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._next = 0.0

    def __call__(self) -> bool:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_SIGNS
            send(self._connection, ALIVE)
        return False


def evaluate(connection: socket.socket, setup: bytes) -> None:
    """Evaluates the policies that the parent sends, until it says to leave.

    Args:
        connection: to the parent.
        setup: pickled: the configuration, the environments that the parent has registered, device, number of threads
            and episodes of each role.
    """
    import torch

    from bbrl_exp.config.schema import measured_of
    from bbrl_exp.config.targets import import_allowed_packages
    from bbrl_exp.envs.registered import register_missing
    from bbrl_exp.processes.threads import set_threads
    from bbrl_exp.runs.evaluator import build_evaluator
    from bbrl_exp.seeding import seed_global_generators

    facts = pickle.loads(setup)
    config = facts["config"]
    set_threads(facts["threads"])
    seed_global_generators(config["seed"])
    import_allowed_packages()
    register_missing(facts["environments"])
    evaluators: dict[str, Evaluator] = {}
    send(connection, DONE)
    while True:
        kind, content = receive(connection)
        if kind == LEAVE:
            return
        task = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        role, stopped = task["role"], SignOfLife(connection)
        if role not in evaluators:
            evaluators[role] = build_evaluator(config, role, facts["episodes"][role], device=facts["device"])
        evaluators[role].load(task["graph"])
        send(connection, DONE, pickle.dumps(evaluators[role].run_each(measured_of(config["eval"]), stopped)))


if __name__ == "__main__":
    serve(sys.argv[1:], evaluate)
