"""A sink in its own thread: whatever it does, the run continues."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from bbrl_exp.errors import described, innermost_place
from bbrl_exp.tracking.sink import RunFacts, Sink, defines

ANSWER_SECONDS = 3.0
MOST_CALLS = 10_000
MOST_BYTES = 256 * 1024**2
_LAST_SECONDS = 0.5
_PLAIN = (bool, int, float, str, type(None))

Call = tuple[str, tuple[Any, ...]]


class BackgroundSink:
    """Hands calls to a sink by a queue; a thread, which starts with the first one, makes them in their order.

    The sink is dropped after its first exception of whatever kind, when more than ``MOST_CALLS`` calls or
    ``MOST_BYTES`` wait for it, and when it does not answer in time. A dropped sink is abandoned, and not called again.

    Args:
        name: of the sink, for messages.
        sink: used by nobody else.
        position: of the sink at the checkpoint that the run resumes from; None if there is none.
    """

    def __init__(self, name: str, sink: Sink, position: Any = None) -> None:
        self._name, self._sink = name, sink
        self._has_position = defines(sink, "position")
        self._position = position
        self._thread: threading.Thread | None = None
        # What follows is shared with the thread, under the lock of this condition.
        self._changed = threading.Condition()
        self._calls: deque[Call] = deque()
        self._bytes = 0
        self._is_busy = False
        self._is_over = False
        self._failure: str | None = None
        self._has_run_ended = False

    def take_warning(self) -> str | None:
        """Why the sink was dropped, in one line that names it; given once."""
        failure = self._failure
        if failure is None:  # the thread may fail right here, and its failure is for the next call
            return None
        self._failure = None
        consequence = "its records may be incomplete" if self._has_run_ended else "the run continues without it"
        return f"warning: sink '{self._name}' {failure}; {consequence}"

    def call(self, method: str, *arguments: Any) -> None:
        """Queues one call, unless the sink does not define the method or was dropped."""
        if self._is_over or not defines(self._sink, method):
            return
        # The run writes into the memory of its arrays again.
        arguments = tuple(each.copy() if isinstance(each, np.ndarray) else each for each in arguments)
        with self._changed:
            self._calls.append((method, arguments))
            self._bytes += _bytes_of(arguments)
            if len(self._calls) > MOST_CALLS or self._bytes > MOST_BYTES:
                self._drop(f"cannot keep up, {len(self._calls):,} records wait for it")
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"sink {self._name}", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # the system has no room for another thread
                self._thread = None
                self._drop(f"has failed: {error}")

    def position(self) -> Any:
        """The sink's position after all calls up to now, its last one if it was dropped; None where it has none."""
        if self._has_position:
            self.call("position")
            self._wait_for_answer()
        return self._position

    def sync(self) -> None:
        """Synchronises the sink, and waits for it where a checkpoint refers to its position."""
        self.call("sync")
        if self._has_position:
            self._wait_for_answer()

    def end(self, ended_at: float) -> None:
        """Waits for the calls that are left, then ends the thread.

        Args:
            ended_at: when the run ended, on :func:`time.monotonic`; the sink has its ``end_seconds`` from then on.
        """
        self._has_run_ended = True
        if not self._wait_until(ended_at + self._sink.end_seconds):
            self._drop(f"has not finished {self._sink.end_seconds:g} s after the end of the run")
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        if self._thread is not None:
            if self._is_busy and self._thread.ident is not None:
                # Ends a loop of Python code; what hangs in a system call ends with the process.
                identity, ends = ctypes.c_ulong(self._thread.ident), ctypes.py_object(SystemExit)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ends)
            self._thread.join(_LAST_SECONDS)

    def _wait_for_answer(self) -> None:
        if not self._wait_until(time.monotonic() + ANSWER_SECONDS):
            self._drop(f"has not answered within {ANSWER_SECONDS:g} s at a checkpoint")

    def _wait_until(self, deadline: float) -> bool:
        """Waits until all calls are done, or the sink was dropped; False where the deadline comes first."""
        with self._changed:
            while (self._calls or self._is_busy) and not self._is_over:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _drop(self, failure: str) -> None:
        with self._changed:
            if not self._is_over:
                self._failure, self._is_over = failure, True
                if defines(self._sink, "abandon"):
                    with contextlib.suppress(RuntimeError):  # the system has no room for another thread
                        threading.Thread(target=self._abandon, daemon=True).start()
            self._calls.clear()
            self._bytes = 0
            self._changed.notify_all()

    def _abandon(self) -> None:
        with contextlib.suppress(BaseException):  # the sink is dropped already
            self._sink.abandon()

    def _run(self) -> None:
        """The thread: makes the calls until the sink is dropped or the run ends."""
        try:
            while (call := self._next()) is not None:
                self._make(*call)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: raised here, they are nobody's Ctrl-C
            failure = f"has failed: {described(error)} ({innermost_place(error)})"
            with self._changed:  # as one, so that the end of the run does not come in between
                self._is_busy = False
                self._drop(failure)

    def _next(self) -> Call | None:
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            while not self._calls and not self._is_over:
                self._changed.wait()
            if self._is_over:
                return None
            self._is_busy = True
            method, arguments = self._calls.popleft()
            self._bytes -= _bytes_of(arguments)
            return method, arguments

    def _make(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Makes a call, without what the sink has recorded already."""
        if method == "position":
            position = self._sink.position()
            if not _is_plain(position):
                raise TypeError(f"position() gave {position!r}: must be plain numbers, texts, lists and dictionaries")
            self._position = position
            return
        if method in ("scalars", "episodes"):
            is_new = arguments[0] > self._sink.recorded_until
            if not is_new.any():
                return
            if not is_new.all():
                arguments = tuple(each[is_new] if isinstance(each, np.ndarray) else each for each in arguments)
        elif method in ("histogram", "image") and arguments[0] <= self._sink.recorded_until:
            return
        getattr(self._sink, method)(*arguments)


class UnavailableSink(Sink):
    """Takes the place of a sink that could not be built: it fails when it starts, as the sink's constructor did."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def start(self, facts: RunFacts) -> None:
        """Raises what the constructor raised."""
        raise self._error


def built_in_time(construct: Callable[[], Sink]) -> Sink:
    """What ``construct`` gives, or what it raises; a sink that fails at its start where it takes too long."""
    made: list[Sink] = []
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            made.append(construct())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if raised:
        raise raised[0]
    return made[0] if made else UnavailableSink(TimeoutError(f"not built within {ANSWER_SECONDS:g} s"))


def _bytes_of(arguments: tuple[Any, ...]) -> int:
    sizes = (each.nbytes if isinstance(each, np.ndarray) else len(each) for each in arguments if _is_large(each))
    return sum(sizes)


def _is_large(argument: object) -> bool:
    return isinstance(argument, np.ndarray | bytes | str)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(each) for key, each in value.items())
    return type(value) in _PLAIN
