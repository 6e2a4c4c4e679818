"""The processes of a remote agent, seen from the parent: one, or several that share the batch.

A ``CALL`` is (rows that go along, entries of the agent's state that have changed, the mode of each module, run), with
the tensors in shared memory, and a ``MORE`` is another run of the same call; a run is (keywords of the agent, stop
variable of the whole batch). Both are answered with an :class:`Answer`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.remote.memory import SharedMemory
from bbrl_exp.agents.remote.rows import Rows, rows_from, write_changes
from bbrl_exp.agents.remote.state import KnownState, State, kept, modes_of, same_state
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.errors import ConfigurationError, RemoteAgentError
from bbrl_exp.processes.crew import Crew
from bbrl_exp.processes.parent import ChildProcess
from bbrl_exp.seeding import stream_seed
from bbrl_exp.workspace import Workspace

CALL, MORE, SEED, GET_STATE, SET_STATE = b"C", b"M", b"D", b"G", b"T"
_STARTUP_SECONDS = 120.0
_LOOK_EVERY_MS = 200


class Answer(NamedTuple):
    """What a call has done so far.

    Attributes:
        changes: see :class:`~bbrl_exp.agents.remote.rows.ReceivedWorkspace`.
        state: entries of the agent's ``state_dict`` that have changed.
        end: the time after the last step, where the batch has a stop variable.
        is_stopped: whether that is true everywhere at the last step.
    """

    changes: Mapping[str, Rows | None]
    state: State
    end: int
    is_stopped: bool


class Copies:
    """The processes and what they were called with last. A copy of this object has not been started.

    They are ``n_processes`` copies of the agent that share the batch, or one with all of it where that is None.

    Raises:
        ConfigurationError: a number that is not possible.
    """

    def __init__(self, n_processes: int | None, timeout: float, seed: int) -> None:
        if n_processes is not None and (isinstance(n_processes, bool) or n_processes < 1):
            raise ConfigurationError(f"n_processes={n_processes!r}: expected an integer of 1 or more")
        if not timeout > 0:
            raise ConfigurationError(f"timeout={timeout!r}: expected a number of seconds above 0")
        stream_seed(seed)
        self.n_processes = n_processes
        self.batch_size: int | None = None
        self._timeout, self._seed = timeout, seed
        self._patience = max(timeout, _STARTUP_SECONDS)
        self._crew = Crew("timeout")
        self._processes: list[_Copy] = []
        self._known: KnownState | None = None
        self._keywords: dict[str, Any] = {}
        self._is_running = False
        self._answers: dict[int, Answer] = {}

    @property
    def is_started(self) -> bool:
        """Whether there are processes."""
        return bool(self._processes)

    def start(self, agent: Agent, batch_size: int | None) -> None:
        """Starts the processes; the agent's environments in this one are closed.

        Raises:
            ConfigurationError: more processes than batch elements, or an agent that cannot work for a slice.
            RemoteAgentError: a process that died or was stuck.
        """
        self._check_open()
        parts = _parts(self.n_processes, batch_size)
        pickled = [cloudpickle.dumps(agent if part is None else agent.for_slice(part)) for part in parts]
        self._known, self.batch_size = KnownState(agent), batch_size
        for index, (part, content) in enumerate(zip(parts, pickled, strict=True)):
            self._processes.append(_Copy(index, part, self._patience))
            own_seed = stream_seed(self._seed, "remote", index)
            setup = (content, own_seed, torch.get_num_threads(), torch.get_default_dtype())
            self._crew.add(self._processes[-1], pickle.dumps(setup), _STARTUP_SECONDS)
        agent.close()
        self._crew.wait()

    def call(self, agent: Agent, workspace: Workspace, keywords: Mapping[str, Any]) -> None:
        """Begins a call in every process.

        Raises:
            WorkspaceError: rows that cannot be shared.
            RemoteAgentError: a process has died, or they have been ended.
        """
        self._check_open()
        assert self._known is not None
        t = keywords.get("t")
        with torch.no_grad():
            rows = [rows_from(workspace, t if isinstance(t, int) else 0, copy.part) for copy in self._processes]
        self._keywords, self._answers = dict(keywords), {}
        changed, modes = self._known.changed(), modes_of(agent)
        calls = [(own_rows, changed, modes, self._run(self._keywords)) for own_rows in rows]
        contents = {index: self._processes[index].to_there.dumps(call) for index, call in enumerate(calls)}
        self._crew.ask(CALL, contents, self._timeout)
        self._is_running = True

    def is_done(self, milliseconds: int = 0) -> bool:
        """Whether the last call has ended everywhere; waits so long at most.

        Raises:
            BbrlExpError: what a process raised, or that it died or is stuck.
        """
        if self._is_running and self._crew.look(milliseconds):
            try:
                self._take_answers()
            except BaseException:
                self._crew.kill()
                raise
        return not self._is_running

    def wait(self) -> None:
        """Waits until the last call has ended everywhere.

        Raises:
            BbrlExpError: as :meth:`is_done`.
        """
        while not self.is_done(_LOOK_EVERY_MS):
            pass

    def write_to(self, workspace: Workspace) -> None:
        """Does to ``workspace`` what the last call has done.

        Raises:
            RemoteAgentError: the slices do not fit together.
        """
        changes = [self._answers[index].changes for index in range(len(self._processes))]
        write_changes(workspace, changes, [copy.part for copy in self._processes])

    def seed(self, seed: int) -> None:
        """Starts every random stream again, here for the next start and there."""
        self._seed = seed
        if self.is_started:
            self._ask(SEED, [(seed, stream_seed(seed, "remote", index)) for index in range(len(self._processes))])

    def states(self) -> list[dict[str, Any]]:
        """What a run needs of each process to resume."""
        return [pickle.loads(content) for content in self._ask(GET_STATE, [None] * len(self._processes))]

    def set_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes over what :meth:`states` gave.

        Raises:
            ConfigurationError: another number of processes.
        """
        if len(states) != len(self._processes):
            raise ConfigurationError(
                f"the state of {len(states)} remote agents cannot be given to {len(self._processes)}; keep their number"
            )
        self._ask(SET_STATE, states)

    def close(self) -> None:
        """Ends the processes; one that does not leave within two seconds is killed."""
        self._crew.close()

    def _ask(self, kind: bytes, contents: Sequence[object]) -> list[bytes]:
        self._check_open()
        self.wait()
        self._crew.ask(kind, {index: pickle.dumps(each) for index, each in enumerate(contents)}, self._patience)
        return self._crew.wait()

    def _check_open(self) -> None:
        if not self._crew.is_open:
            raise RemoteAgentError("the processes of this remote agent have been ended")

    def _take_answers(self) -> None:
        for index, content in self._crew.answers.items():
            answer = Answer(*self._processes[index].from_there.loads(content))
            earlier = self._answers[index].state if index in self._answers else {}
            self._answers[index] = answer._replace(state={**earlier, **kept(answer.state)})
        missing = self._missing_runs()
        self._is_running = bool(missing)
        if missing:
            self._crew.ask(MORE, {index: self._run(keywords) for index, keywords in missing.items()}, self._timeout)
            return
        first, *others = (self._answers[index].state for index in range(len(self._processes)))
        for index, state in enumerate(others, start=1):
            if not same_state(state, first):
                names = ", ".join(sorted({*state, *first}))
                raise ConfigurationError(
                    f"copies 0 and {index} of the agent have changed {names} differently: a state of the whole batch "
                    "(statistics, say) cannot be kept by several copies; use one process"
                )
        assert self._known is not None
        self._known.take(first)

    def _missing_runs(self) -> dict[int, dict[str, Any]]:
        """The keywords of the runs after which all copies have stopped where the whole batch would stop: at the first
        time at which the stop variable is true everywhere.

        The whole batch has not been true before the last copy was for the first time; so all are led to that time, and
        if it is not the one, on from there.
        """
        if self._keywords.get("stop_variable") is None or len(self._processes) == 1:
            return {}
        ends = {index: answer.end for index, answer in self._answers.items()}
        last = max(ends.values())
        if min(ends.values()) < last:
            led = {**self._keywords, "stop_variable": None}
            return {index: {**led, "t": end, "n_steps": last - end} for index, end in ends.items() if end < last}
        limit, t = self._keywords.get("n_steps"), self._keywords.get("t", 0)
        left = None if limit is None else t + limit - last
        if left == 0 or all(answer.is_stopped for answer in self._answers.values()):
            return {}
        return {index: {**self._keywords, "t": last, "n_steps": left} for index in ends}

    def _run(self, keywords: Mapping[str, Any]) -> bytes:
        return pickle.dumps((keywords, self._keywords.get("stop_variable") if len(self._processes) > 1 else None))

    def __reduce__(self) -> tuple[type[Copies], tuple[int | None, float, int]]:
        return type(self), (self.n_processes, self._timeout, self._seed)


class _Copy(ChildProcess):
    def __init__(self, index: int, part: BatchSlice | None, timeout: float) -> None:
        self.part = part
        self.to_there, self.from_there = SharedMemory(), SharedMemory()
        descriptors = (self.to_there.descriptor, self.from_there.descriptor)
        module, name = "bbrl_exp.agents.remote.process", f"remote agent {index}"
        super().__init__(module, f"bbrl-remote-agent-{index}", name, descriptors, RemoteAgentError)
        self.connection.settimeout(timeout)

    def close(self) -> None:
        super().close()
        self.to_there.close()
        self.from_there.close()


def _parts(n_processes: int | None, batch_size: int | None) -> list[BatchSlice | None]:
    if n_processes is None:
        return [None]
    assert batch_size is not None
    if n_processes > batch_size:
        raise ConfigurationError(
            f"n_processes={n_processes}: there are only {batch_size} batch elements; possible: 1 … {batch_size}"
        )
    bounds = np.linspace(0, batch_size, n_processes + 1).astype(int).tolist()
    return [BatchSlice(first, end - first, batch_size) for first, end in pairwise(bounds)]
