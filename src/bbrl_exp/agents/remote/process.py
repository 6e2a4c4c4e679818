"""A remote agent's process: ``python -m bbrl_exp.agents.remote.process bbrl-remote-agent-<i> <socket> …``.

The messages are described in :mod:`bbrl_exp.agents.remote.copies`.
"""

from __future__ import annotations

import pickle
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.remote.copies import CALL, GET_STATE, MORE, SEED, SET_STATE, Answer
from bbrl_exp.agents.remote.memory import SharedMemory
from bbrl_exp.agents.remote.rows import ReceivedWorkspace
from bbrl_exp.agents.remote.state import KnownState, take_modes
from bbrl_exp.agents.resumable import load_run_state, run_state
from bbrl_exp.processes.child import serve
from bbrl_exp.processes.messages import ALIVE, DONE, LEAVE, receive, send
from bbrl_exp.seeding import global_generator_states, load_global_generator_states, seed_global_generators

_LOOK_EVERY_SECONDS = 0.2


class _Server:
    def __init__(self, connection: socket.socket, setup: bytes, to_here: int, from_here: int) -> None:
        agent, seed, n_threads, dtype = pickle.loads(setup)
        torch.set_num_threads(n_threads)
        torch.set_default_dtype(dtype)
        seed_global_generators(seed)
        self._agent: Agent = pickle.loads(agent)
        self._state = KnownState(self._agent)
        self._workspace = ReceivedWorkspace({})
        self._connection, self._sending = connection, threading.Lock()
        self._to_here, self._from_here = SharedMemory(to_here), SharedMemory(from_here)
        threading.Thread(target=self._show_progress, daemon=True).start()
        self._serve()

    def _serve(self) -> None:
        reply = b""
        while True:
            self._send(DONE, reply)
            kind, content = receive(self._connection)
            reply = b""
            if kind == CALL:
                rows, state, modes, run = self._to_here.loads(content)
                self._state.take(state)
                take_modes(self._agent, modes)
                self._workspace = ReceivedWorkspace(rows)
                reply = self._run(*pickle.loads(run))
            elif kind == MORE:
                reply = self._run(*pickle.loads(content))
            elif kind == SEED:
                agent_seed, global_seed = pickle.loads(content)
                self._agent.seed(agent_seed)
                seed_global_generators(global_seed)
            elif kind == GET_STATE:
                reply = pickle.dumps({"agents": run_state(self._agent), "globals": global_generator_states()})
            elif kind == SET_STATE:
                states = pickle.loads(content)
                load_run_state(self._agent, states["agents"])
                name, keys, *position = states["globals"]["numpy"]  # version 0.1.0 kept the keys as a list
                numpy_state = name, torch.as_tensor(keys), *position
                load_global_generator_states({"cuda": [], **states["globals"], "numpy": numpy_state})
            elif kind == LEAVE:
                self._agent.close()
                return

    def _run(self, keywords: Mapping[str, Any], stop_variable: str | None) -> bytes:
        with torch.no_grad():
            self._agent(self._workspace, **keywords)
            end, is_stopped = (0, False) if stop_variable is None else self._end(keywords, stop_variable)
            answer = Answer(self._workspace.changes(), self._state.changed(), end, is_stopped)
        return self._from_here.dumps(tuple(answer))

    def _end(self, keywords: Mapping[str, Any], stop_variable: str) -> tuple[int, bool]:
        """The time after the last step of a run, and whether the stop variable is true everywhere at that step."""
        t, n_steps = keywords.get("t", 0), keywords.get("n_steps")
        end = self._workspace.n_steps(stop_variable) if n_steps is None else t + n_steps
        for step in range(t if keywords["stop_variable"] is not None else end - 1, end):
            if bool(self._workspace.get(stop_variable, step).all()):
                return step + 1, True
        return end, False

    def _show_progress(self) -> None:
        known = 0
        while True:
            time.sleep(_LOOK_EVERY_SECONDS)
            found = self._workspace.n_rows()
            if found != known:
                known = found
                self._send(ALIVE)

    def _send(self, kind: bytes, content: bytes = b"") -> None:
        with self._sending:
            send(self._connection, kind, content)


if __name__ == "__main__":
    serve(sys.argv[1:], _Server)
