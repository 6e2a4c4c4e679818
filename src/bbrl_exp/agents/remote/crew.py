"""The processes of a remote agent, seen from the parent: they are started, called together, and ended."""

from __future__ import annotations

import os
import pickle
import select
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import cloudpickle
import numpy as np
import torch

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.remote.protocol import GET_STATE, MORE, SEED, SET_STATE, Setup
from bbrl_exp.agents.remote.remote_copy import STARTUP_SECONDS, RemoteCopy
from bbrl_exp.agents.remote.state import KnownState, StateEntry, same_state
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.errors import ConfigurationError, RemoteAgentError
from bbrl_exp.processes.parent import end_all
from bbrl_exp.seeding import stream_seed
from bbrl_exp.workspace import Workspace

_LOOK_EVERY_MS = 200


class Crew:
    """One process, or several that share the batch. A copy of a crew has not been started.

    Args:
        n_processes: number of copies of the agent, each for its slice of the batch; None for one process that has the
            whole batch whatever its size.
        timeout: seconds without any progress after which a process is an error.
        seed: root of the seeds of the processes' global generators.

    Raises:
        ConfigurationError: a number that is not possible.
    """

    def __init__(self, n_processes: int | None, timeout: float, seed: int) -> None:
        if n_processes is not None and (isinstance(n_processes, bool) or n_processes < 1):
            raise ConfigurationError(f"n_processes={n_processes!r}: expected an integer of 1 or more")
        if not timeout > 0:
            raise ConfigurationError(f"timeout={timeout!r}: expected a number of seconds above 0")
        stream_seed(seed)
        self._options = (n_processes, timeout, seed)
        self.copies: list[RemoteCopy] = []
        self.batch_size: int | None = None
        self._known: KnownState | None = None
        self._training: tuple[bool, ...] | None = None
        self._finalizer = weakref.finalize(self, _end, os.getpid(), self.copies)
        self._poll = select.poll()

    @property
    def is_started(self) -> bool:
        """Whether there are processes."""
        return bool(self.copies)

    def start(self, agent: Agent, batch_size: int | None) -> None:
        """Starts the processes; the agent's live parts in this one are closed.

        Args:
            agent: what they run.
            batch_size: size of the whole batch; needed where copies share it.

        Raises:
            ConfigurationError: more processes than batch elements, or an agent that cannot work for a slice.
            RemoteAgentError: a process that died or was stuck.
        """
        if not self._finalizer.alive:
            raise RemoteAgentError("the processes of this remote agent have been ended")
        n_processes, timeout, seed = self._options
        parts: list[BatchSlice | None] = [None]
        if n_processes is not None:
            assert batch_size is not None
            if n_processes > batch_size:
                raise ConfigurationError(
                    f"n_processes={n_processes}: there are only {batch_size} batch elements; possible: 1 … {batch_size}"
                )
            bounds = np.linspace(0, batch_size, n_processes + 1).astype(int).tolist()
            parts = [BatchSlice(first, end - first, batch_size) for first, end in pairwise(bounds)]
        pickled = [cloudpickle.dumps(agent if part is None else agent.for_slice(part)) for part in parts]
        self._known = KnownState(agent)
        self._training = tuple(module.training for module in agent.modules())
        self.batch_size = batch_size
        try:
            for index, part in enumerate(parts):
                self.copies.append(RemoteCopy(index, part, timeout))
            for index, (copy, content) in enumerate(zip(self.copies, pickled, strict=True)):
                own_seed = stream_seed(seed, "remote", index)
                copy.set_up(Setup(content, own_seed, torch.get_num_threads(), torch.get_default_dtype()))
                self._poll.register(copy.process.connection.fileno(), select.POLLIN)
            agent.close()
            self.gather(None, STARTUP_SECONDS)
        except BaseException:
            self.kill()
            raise

    def call(self, agent: Agent, workspace: Workspace, keywords: Mapping[str, Any], everything: bool) -> None:
        """Begins a call in every process."""
        self._check_open()
        assert self._known is not None
        state = self._known.changed()
        training = tuple(module.training for module in agent.modules())
        for copy in self.copies:
            copy.begin(workspace, keywords, everything, state, None if training == self._training else training)
        self._training = training

    def gather(self, workspace: Workspace | None, timeout: float | None = None) -> list[bytes]:
        """Waits for the answer of every process."""
        waiting = Waiting(self, range(len(self.copies)))
        while not waiting.look(workspace, _LOOK_EVERY_MS, timeout):
            pass
        return [waiting.answers[index] for index in range(len(self.copies))]

    def take_state(self, states: Sequence[Mapping[str, StateEntry]]) -> None:
        """Takes over what the agent's state has become there.

        Raises:
            ConfigurationError: the copies do not agree.
        """
        assert self._known is not None
        for index, state in enumerate(states):
            if not same_state(state, states[0]):
                names = sorted({*state, *states[0]})
                raise ConfigurationError(
                    f"copies 0 and {index} of the agent have changed {', '.join(names)} differently: a state of the "
                    f"whole batch (statistics, say) cannot be kept by several copies; use one process"
                )
        self._known.take(states[0])

    def seed(self, seed: int) -> None:
        """Begins every random stream anew, here for the next start and there."""
        n_processes, timeout, _ = self._options
        self._options = (n_processes, timeout, seed)
        if self.is_started:
            self._ask_all(SEED, [(seed, stream_seed(seed, "remote", index)) for index in range(len(self.copies))])

    def states(self) -> list[dict[str, Any]]:
        """What the run needs of each process to go on."""
        return [pickle.loads(content) for content in self._ask_all(GET_STATE, [None] * len(self.copies))]

    def set_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes over what :meth:`states` gave.

        Raises:
            ConfigurationError: another number of processes.
        """
        if len(states) != len(self.copies):
            raise ConfigurationError(
                f"the state of {len(states)} remote agents cannot be given to {len(self.copies)}; keep their number"
            )
        self._ask_all(SET_STATE, states)

    def more(self, index: int, keywords: Mapping[str, Any]) -> None:
        """Lets one process go on in the same call."""
        self.copies[index].send(MORE, keywords)

    def poll(self, milliseconds: int) -> list[int]:
        """The descriptors of the processes that have said something."""
        return [descriptor for descriptor, _ in self._poll.poll(milliseconds)]

    def kill(self) -> None:
        """Ends the processes at once."""
        for copy in self.copies:
            copy.process.process.kill()
        self.close()

    def close(self) -> None:
        """Ends the processes; one that does not leave within two seconds is killed."""
        self._finalizer()

    def _ask_all(self, kind: bytes, contents: Sequence[object]) -> list[bytes]:
        self._check_open()
        try:
            for copy, content in zip(self.copies, contents, strict=True):
                copy.send(kind, content)
            return self.gather(None)
        except BaseException:
            self.kill()
            raise

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise RemoteAgentError("the processes of this remote agent have been ended")

    def __reduce__(self) -> tuple[type[Crew], tuple[int | None, float, int]]:
        return type(self), self._options


class Waiting:
    """Waits for answers of some processes of a crew.

    Args:
        crew: the crew.
        indexes: the processes that were asked something.

    Attributes:
        answers: what has come, by the process's number.
    """

    def __init__(self, crew: Crew, indexes: Iterable[int]) -> None:
        self._crew = crew
        self._pending = {crew.copies[index].process.connection.fileno(): index for index in indexes}
        self.answers: dict[int, bytes] = {}
        self._checked_at = time.monotonic()

    def look(self, workspace: Workspace | None, milliseconds: int, timeout: float | None = None) -> bool:
        """Takes what is there; tells whether everything is.

        Raises:
            BbrlExpError: what a process raised, or that it died or was stuck.
        """
        if not self._pending:
            return True
        found = self._crew.poll(milliseconds)
        for descriptor in found:
            index = self._pending[descriptor] if descriptor in self._pending else self._index_of(descriptor)
            answer = self._crew.copies[index].take(workspace)
            if answer is not None:
                self.answers[index] = answer
                del self._pending[descriptor]
        if not found or time.monotonic() - self._checked_at > 1.0:
            self._checked_at = time.monotonic()
            for index in self._pending.values():
                self._crew.copies[index].check(timeout)
        return not self._pending

    def _index_of(self, descriptor: int) -> int:
        # One that was not asked says something: it has died.
        connections = [copy.process.connection.fileno() for copy in self._crew.copies]
        return connections.index(descriptor)


def _end(owner: int, copies: Sequence[RemoteCopy]) -> None:
    end_all(owner, [copy.process for copy in copies])
    for copy in copies:
        copy.close_memory()
