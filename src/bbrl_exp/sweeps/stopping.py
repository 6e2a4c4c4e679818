"""How a sweep is stopped whose jobs run in workers of this machine or of Ray: they save before anything ends.

Both libraries kill their workers, and all that these have started, as soon as an exception leaves their waiting. So the
handler of a signal does not raise at once: it leaves a mark in the sweep's folder, which the workers look for, and
waits until no job holds its folder any more.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

from bbrl_exp.records.claim import is_in_use
from bbrl_exp.runs.stop import CAUGHT, STOPPED_BY

_SECONDS_TO_SAVE = 60.0
_SECONDS_OF_REST = 2.5
_SECONDS_BETWEEN_LOOKS = 0.1


class SweepStoppedError(SystemExit):
    """A signal asked the sweep to stop.

    Args:
        code: 128 + the number of the signal.
    """

    code: int


class OrderlyStop:
    """Takes the signals that ask to stop while it is entered; a second signal stops at once.

    Args:
        sweep: the sweep's folder.
        folders: of its jobs.
    """

    def __init__(self, sweep: Path, folders: Sequence[Path]) -> None:
        self.mark = sweep / f".stop_{os.getpid()}"
        self._folders = folders
        self._before = {number: signal.getsignal(number) for number in CAUGHT}

    def __enter__(self) -> OrderlyStop:
        self.take_signals()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.mark.unlink(missing_ok=True)

    def take_signals(self) -> None:
        """Takes the signals, also from a library that has taken them meanwhile."""
        for number in CAUGHT:
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> NoReturn:
        if not self.mark.exists():
            self.mark.touch()
            self._wait()
        raise SweepStoppedError(STOPPED_BY + number)

    def _wait(self) -> None:
        """Waits until no job has held its folder for a while: one may have been about to begin."""
        deadline = time.monotonic() + _SECONDS_TO_SAVE
        free_since = time.monotonic()
        while (now := time.monotonic()) < deadline and now - free_since < _SECONDS_OF_REST:
            if any(is_in_use(folder) for folder in self._folders):
                free_since = now
            time.sleep(_SECONDS_BETWEEN_LOOKS)
