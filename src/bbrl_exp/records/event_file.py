"""The TensorBoard file of one run: scalars of whole chunks, and single summaries, appended and flushed at once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.append_only_file import AppendOnlyFile
from bbrl_exp.records.event_records import ScalarRecords, framed

FILE_PREFIX = "events.out.tfevents."


class EventFile:
    """``events.out.tfevents.<seconds>.<process>`` directly in ``folder``.

    Args:
        folder: the run's folder; it must exist.
        continued: None for a new file; else the name of the one that is there, and where it goes on.

    Attributes:
        is_new: whether it was made by this object.

    Raises:
        BbrlExpError: if the file cannot be made or written, naming it, or if ``continued`` leads to no event file.
    """

    def __init__(self, folder: Path, continued: tuple[str, int] | None = None) -> None:
        self.is_new = continued is None
        self._encoders: dict[tuple[str, ...], ScalarRecords] = {}
        if continued is not None:
            if Path(continued[0]).name != continued[0] or not continued[0].startswith(FILE_PREFIX):
                raise BbrlExpError(f"cannot go on with '{continued[0]}': its name is not that of an event file")
            self._file = AppendOnlyFile(folder / continued[0], continued[1])
            return
        seconds = time.time()
        self._file = AppendOnlyFile(folder / f"{FILE_PREFIX}{int(seconds):010d}.{os.getpid()}")
        self.event(Event(wall_time=seconds, file_version="brain.Event:2"))

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._file.path

    def scalars(self, tags: Sequence[str], steps: NDArray[np.int64], values: NDArray[np.floating]) -> None:
        """Append N events with one value for each of S tags.

        Args:
            tags: the S names.
            steps: environment steps, ``[N]``.
            values: ``[S, N]``, kept as float32.
        """
        if len(tags) and len(steps):
            self._file.write(self._encoder(tags).encode(time.time(), steps, values))

    def summary(self, step: int, summary: Summary) -> None:
        """Append one event that holds ``summary``: a histogram, a text, a picture."""
        self.event(Event(wall_time=time.time(), step=step, summary=summary))

    def event(self, event: Event) -> None:
        """Append one event."""
        self._file.write(framed(event.SerializeToString()))

    def record_length(self, tags: Sequence[str]) -> int:
        """Bytes that one event with these tags takes in the file."""
        return self._encoder(tags).record_length

    def sync(self) -> None:
        """As :meth:`AppendOnlyFile.sync`."""
        self._file.sync()

    def tell(self) -> int:
        """Bytes written so far, always the end of a record."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        self._file.close()

    def _encoder(self, tags: Sequence[str]) -> ScalarRecords:
        key = tuple(tags)
        if key not in self._encoders:
            self._encoders[key] = ScalarRecords(key)
        return self._encoders[key]
