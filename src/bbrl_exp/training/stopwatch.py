"""The time that the loop itself takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Seconds since it was made, without those spent in pauses.

    Args:
        seconds: what it shows at first.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._begun = time.perf_counter() - seconds
        self._paused = 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self._begun - self._paused

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Stands still while the block runs."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - begun
