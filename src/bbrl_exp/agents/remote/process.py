"""A remote agent's process: ``python -m bbrl_exp.agents.remote.process bbrl-remote-agent-<i> <socket> …``."""

from __future__ import annotations

import pickle
import random
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.remote.memory import Arena
from bbrl_exp.agents.remote.mirror import Change, MirrorWorkspace
from bbrl_exp.agents.remote.protocol import (
    CALL,
    GET_STATE,
    MORE,
    NEED,
    SEED,
    SET_STATE,
    Answer,
    Call,
    ChangedVariable,
    Setup,
    set_training,
)
from bbrl_exp.agents.remote.state import KnownState, pack, unpack
from bbrl_exp.agents.resumable import load_run_state, run_state
from bbrl_exp.processes.child import connect, packed_error
from bbrl_exp.processes.messages import DONE, ERROR, LEAVE, receive, send
from bbrl_exp.seeding import seed_global_generators

_LOOK_EVERY_SECONDS = 0.2


def main(arguments: list[str]) -> None:
    """Serves one parent until it goes."""
    _label, connection_number, parent, bound_to_thread, to_here, from_here = arguments
    connection = connect(int(connection_number), int(parent), bound_to_thread == "1")
    try:
        sys.path[:] = pickle.loads(receive(connection)[1])
        setup = pickle.loads(receive(connection)[1])
        _Server(connection, setup, Arena(int(to_here)), Arena(int(from_here))).serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        send(connection, ERROR, packed_error(error))


class _Server:
    """Runs the agent on a mirror of the parent's workspace."""

    def __init__(self, connection: socket.socket, setup: Setup, to_here: Arena, from_here: Arena) -> None:
        torch.set_num_threads(setup.num_threads)
        torch.set_default_dtype(setup.dtype)
        seed_global_generators(setup.seed)
        self._connection = connection
        self._to_here, self._from_here = to_here, from_here
        self._agent: Agent = pickle.loads(setup.agent)
        self._state = KnownState(self._agent)
        self._workspace = MirrorWorkspace(self._fetch)

    def serve(self) -> None:
        """Does what the parent asks for, until it says to leave."""
        threading.Thread(target=self._show_progress, daemon=True).start()
        send(self._connection, DONE)
        while True:
            kind, content = receive(self._connection)
            reply = b""
            if kind == CALL:
                reply = pickle.dumps(self._call(pickle.loads(content)))
            elif kind == MORE:
                reply = pickle.dumps(self._run(pickle.loads(content)))
            elif kind == SEED:
                agent_seed, global_seed = pickle.loads(content)
                self._agent.seed(agent_seed)
                seed_global_generators(global_seed)
            elif kind == GET_STATE:
                reply = pickle.dumps({"agents": run_state(self._agent), "globals": _global_generators()})
            elif kind == SET_STATE:
                state = pickle.loads(content)
                load_run_state(self._agent, state["agents"])
                _set_global_generators(state["globals"])
            elif kind == LEAVE:
                self._agent.close()
                return
            send(self._connection, DONE, reply)

    def _call(self, call: Call) -> Answer:
        self._state.take(unpack(call.state, self._to_here))
        if call.training is not None:
            set_training(self._agent, call.training)
        self._workspace.begin(call.variables)
        for name, t, piece in call.rows:
            self._workspace.place(name, t, self._to_here.get(piece))
        return self._run(call.keywords)

    def _run(self, keywords: Mapping[str, Any]) -> Answer:
        with torch.no_grad():
            self._agent(self._workspace, **keywords)
        changes, removed = self._workspace.changes()
        self._from_here.begin()
        return Answer(
            tuple(self._packed(change) for change in changes),
            tuple(removed),
            pack(self._state.changed(), self._from_here),
        )

    def _packed(self, change: Change) -> ChangedVariable:
        rewritten = tuple((t, self._from_here.put(row)) for t, row in change.rewritten.items())
        return ChangedVariable(
            change.name, change.is_new, change.n_kept, rewritten, self._from_here.put(change.appended)
        )

    def _fetch(self, name: str, t: int | None) -> None:
        send(self._connection, NEED, pickle.dumps((name, t)))
        first, piece = pickle.loads(receive(self._connection)[1])
        self._workspace.place(name, first, self._to_here.get(piece))

    def _show_progress(self) -> None:
        known = 0
        while True:
            time.sleep(_LOOK_EVERY_SECONDS)
            found = self._workspace.n_rows()
            if found != known:
                known = found
                self._from_here.counter += 1


def _global_generators() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()
    kind, keys, *position = numpy_state
    return {
        "torch": torch.get_rng_state(),
        "numpy": [kind, keys.tolist(), *position],
        "random": random.getstate(),
    }


def _set_global_generators(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    np.random.set_state(tuple(state["numpy"]))
    random.setstate(state["random"])


if __name__ == "__main__":
    main(sys.argv[1:])
