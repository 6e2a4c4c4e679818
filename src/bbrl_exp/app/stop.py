"""Signals that ask a run to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopSignal:
    """Whether the run was asked to stop: the first SIGINT or SIGTERM sets a flag, a second one interrupts at once."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catches both signals while the block runs; outside the main thread nothing is caught."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._set) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _set(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
