"""Signals that ask a run to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
STOPPED_BY = 128  # plus the number of the signal: the exit code of what it stopped


class StopSignal:
    """Whether the run was asked to stop.

    The first of the signals SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 sets a flag. A SIGINT after that interrupts at once,
    or when the graph is done that is being compiled; the others, which schedulers repeat, change nothing any more.

    Attributes:
        number: the signal that asked, None as long as none has.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def came(self) -> bool:
        """Whether the run was asked to stop."""
        return self.number is not None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catches the signals while the block runs; outside the main thread nothing is caught."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._set) for number in CAUGHT}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _set(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
