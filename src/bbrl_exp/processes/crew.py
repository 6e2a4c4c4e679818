"""Processes that are asked together, and watched until they have answered."""

from __future__ import annotations

import os
import select
import time
import weakref
from collections.abc import Mapping

from bbrl_exp.errors import WorkerError
from bbrl_exp.processes.messages import ALIVE
from bbrl_exp.processes.parent import GRACE_SECONDS, ChildProcess, end_all

_LOOK_EVERY_MS = 200
_SECONDS_BETWEEN_CHECKS = 0.2


class Crew:
    """Child processes with a timeout. After any error all of them are ended.

    They end with :meth:`close`, with the crew, and with this process.

    Args:
        option: the name of the timeout in messages.
        grace: seconds that they have to leave, see :func:`~bbrl_exp.processes.parent.end_all`.

    Attributes:
        children: the processes, in the order in which they were added.
        answers: of the last question, by the positions of the processes.
    """

    def __init__(self, option: str, grace: float = GRACE_SECONDS) -> None:
        self.children: list[ChildProcess] = []
        self.answers: dict[int, bytes] = {}
        self._option = option
        self._finalizer = weakref.finalize(self, end_all, os.getpid(), self.children, grace)
        self._poll = select.poll()
        self._by_descriptor: dict[int, int] = {}
        self._pending: set[int] = set()
        self._timeout = 0.0
        self._last_words: dict[int, float] = {}
        self._next_check = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the processes have not been ended."""
        return self._finalizer.alive

    def add(self, child: ChildProcess, setup: bytes, timeout: float) -> None:
        """Adds a process that has just been started; its first answer says that it is ready.

        Args:
            child: the process.
            setup: what it is set up with.
            timeout: seconds it has to become ready.

        Raises:
            WorkerError: it has died.
        """
        descriptor = child.connection.fileno()
        self._by_descriptor[descriptor] = len(self.children)
        self.children.append(child)
        self._poll.register(descriptor, select.POLLIN)
        self._expect({len(self.children) - 1, *self._pending}, timeout)
        try:
            child.set_up(setup)
        except BaseException:
            self.kill()
            raise

    def ask(self, kind: bytes, contents: Mapping[int, bytes], timeout: float) -> None:
        """Sends processes a message that they answer.

        Args:
            kind: of the message.
            contents: of each process's, by its position.
            timeout: seconds without a word after which a process is an error.

        Raises:
            WorkerError: a process has died, or they have been ended.
        """
        if not self.is_open:
            raise WorkerError("the processes have been ended")
        self.answers.clear()
        self._expect(set(contents), timeout)
        try:
            for position, content in contents.items():
                self.children[position].send(kind, content)
        except BaseException:
            self.kill()
            raise

    def look(self, milliseconds: int) -> bool:
        """Takes the messages that have come, waiting so long for the first; whether all answers are there.

        Raises:
            BbrlExpError: what a process raised, or that one died or is stuck.
        """
        if self._pending and not self.is_open:
            raise WorkerError("the processes have been ended")
        try:
            while self._pending:
                events = self._poll.poll(milliseconds)
                for descriptor, _ in events:
                    self._take(self._by_descriptor[descriptor])
                if (now := time.monotonic()) >= self._next_check:
                    self._check(now)
                if not events:
                    break
                milliseconds = 0
        except BaseException:
            self.kill()
            raise
        return not self._pending

    def wait(self) -> list[bytes]:
        """Waits for the answers, in the order of the processes that were asked.

        Raises:
            BbrlExpError: as :meth:`look`.
        """
        while not self.look(_LOOK_EVERY_MS):
            pass
        return [self.answers[position] for position in sorted(self.answers)]

    def kill(self) -> None:
        """Ends the processes at once."""
        for child in self.children:
            child.process.kill()
        self.close()

    def close(self) -> None:
        """Ends the processes; may be called again."""
        self._finalizer()

    def _expect(self, positions: set[int], timeout: float) -> None:
        now = time.monotonic()
        self._pending, self._timeout = positions, timeout
        self._next_check = now + _SECONDS_BETWEEN_CHECKS
        self._last_words.update(dict.fromkeys(positions, now))

    def _take(self, position: int) -> None:
        # One that was not asked speaks only when it dies or raises, which receive() turns into an error.
        kind, content = self.children[position].receive()
        self._last_words[position] = time.monotonic()
        if kind != ALIVE:
            self.answers[position] = content
            self._pending.discard(position)

    def _check(self, now: float) -> None:
        self._next_check = now + _SECONDS_BETWEEN_CHECKS
        for position in self._pending:
            self.children[position].check_alive()
            if now - self._last_words[position] > self._timeout:
                self.children[position].raise_stuck(self._timeout, self._option)
