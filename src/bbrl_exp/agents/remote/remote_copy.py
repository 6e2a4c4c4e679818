"""One process of a remote agent, seen from the parent: what it is sent, what it asks for, whether it is well."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from bbrl_exp.agents.remote.memory import Arena, Piece
from bbrl_exp.agents.remote.protocol import CALL, NEED, ROWS, SEED, Answer, Call, Placed, Setup
from bbrl_exp.agents.remote.state import StateEntry, pack, unpack
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.errors import RemoteAgentError, WorkspaceError
from bbrl_exp.processes.parent import ChildProcess
from bbrl_exp.workspace import Workspace

STARTUP_SECONDS = 120.0
_MOST_EXPECTED_READS = 64


class RemoteCopy:
    """One process that runs the agent, or its copy for a slice of the batch.

    Args:
        index: its number.
        part: its slice; None for everything, whatever the batch.
        timeout: seconds without any progress after which it is an error.
    """

    def __init__(self, index: int, part: BatchSlice | None, timeout: float) -> None:
        self.part = part
        self._timeout = timeout
        self._to_there, self._from_there = Arena(), Arena()
        # The rows that earlier calls read, relative to their first time step: sent along with the next call.
        self._expected: set[tuple[str, int | None]] = set()
        self._began_at: int | None = None
        self._last_counter = 0
        self._last_progress = time.monotonic()
        self.process = ChildProcess(
            "bbrl_exp.agents.remote.process",
            f"bbrl-remote-agent-{index}",
            f"remote agent {index}",
            (self._to_there.descriptor, self._from_there.descriptor),
            RemoteAgentError,
        )
        self.process.connection.settimeout(max(timeout, STARTUP_SECONDS))

    def set_up(self, setup: Setup) -> None:
        """Sends what the process needs to begin; the user's code is then importable there as it is here."""
        self.send(SEED, sys.path)
        self.send(SEED, setup)

    def send(self, kind: bytes, content: object) -> None:
        """Sends a message; its time begins."""
        self.process.send(kind, pickle.dumps(content))
        self._last_progress = time.monotonic()

    def begin(
        self,
        workspace: Workspace,
        keywords: Mapping[str, Any],
        everything: bool,
        state: Mapping[str, StateEntry],
        training: tuple[bool, ...] | None,
    ) -> None:
        """Begins a call.

        Args:
            workspace: the whole batch.
            keywords: of the agent.
            everything: whether all rows go along, so that none is asked for later.
            state: what has changed of the agent's state.
            training: whether each module is in training mode; None for as before.
        """
        self._to_there.begin()
        t = keywords.get("t")
        self._began_at = t if isinstance(t, int) else None
        facts = workspace.variable_facts()
        for name, (_, _, _, device) in facts.items():
            if device.type != "cpu":
                raise WorkspaceError(f"'{name}': remote agents share rows on the cpu, found {device}")
        wanted: Iterable[tuple[str, int | None]] = [(name, None) for name in facts] if everything else self._expected
        rows: Placed = []
        for name, offset in wanted:
            row = None if offset is None else (self._began_at or 0) + offset
            if name in facts and (facts[name][0] > 0 if row is None else 0 <= row < facts[name][0]):
                rows.append((name, row or 0, self._packed_rows(workspace, name, row)))
        variables = {
            name: (n_steps, self._own_shape(shape, name), dtype) for name, (n_steps, shape, dtype, _) in facts.items()
        }
        self.send(CALL, Call(keywords, variables, rows, pack(state, self._to_there), training))

    def take(self, workspace: Workspace | None) -> bytes | None:
        """Receives one message: the content of the answer, or None where a row was asked for and given.

        Args:
            workspace: from which rows are given.
        """
        kind, content = self.process.receive()
        self._last_progress = time.monotonic()
        if kind != NEED:
            return content
        assert workspace is not None
        name, t = pickle.loads(content)
        if self._began_at is not None and len(self._expected) < _MOST_EXPECTED_READS:
            self._expected.add((name, None if t is None else t - self._began_at))
        self._to_there.begin()
        self.send(ROWS, (t or 0, self._packed_rows(workspace, name, t)))
        return None

    def received(self, piece: Piece) -> Tensor:
        """A tensor that the process has put into memory; its next answer overwrites it."""
        return self._from_there.get(piece)

    def received_state(self, answer: Answer) -> dict[str, StateEntry]:
        """What has changed there of the agent's state."""
        state = unpack(answer.state, self._from_there)
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}

    def check(self, timeout: float | None = None) -> None:
        """Raises the error of a process that has died, or has made no progress for ``timeout`` seconds."""
        self.process.check_alive()
        counter = self._from_there.counter
        if counter != self._last_counter:
            self._last_counter, self._last_progress = counter, time.monotonic()
        limit = self._timeout if timeout is None else timeout
        if time.monotonic() - self._last_progress > limit:
            self.process.raise_stuck(limit, "timeout")

    def close_memory(self) -> None:
        """Closes the shared memory."""
        self._to_there.close()
        self._from_there.close()

    def _packed_rows(self, workspace: Workspace, name: str, t: int | None) -> Piece:
        with torch.no_grad():
            rows = workspace.get_full(name) if t is None else workspace.get(name, t).unsqueeze(0)
            if self.part is not None:
                rows = rows[:, self.part.first : self.part.first + self.part.count]
            return self._to_there.put(rows)

    def _own_shape(self, shape: torch.Size, name: str) -> torch.Size:
        part = self.part
        if part is None:
            return shape
        if not shape or shape[0] != part.whole:
            raise WorkspaceError(f"'{name}': copies share rows [{part.whole}, …], found {list(shape)}")
        return torch.Size((part.count, *shape[1:]))
