"""Replay buffers on disk: what was put is written once, in files that checkpoints refer to.

A buffer's rows never change, so that a checkpoint costs the rows that are new since the one before. The files of a
checkpoint are those of the list that stands in it; they hold all rows of the buffer, and perhaps older ones before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from torch import Tensor

from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.training.checkpoint import read_checkpoint, write_checkpoint

_FOLDER_NAME = "replay"
# Bytes. A smaller segment is written again together with the rows after it, which bounds the number of files.
_SMALL = 1 << 20
# Bytes. As much is in memory twice while a segment is written.
_LARGEST = 1 << 26


class Segment(TypedDict):
    """A file with the rows ``first`` … ``stop - 1`` of a replay buffer, and the checksum that it has."""

    file: str
    first: int
    stop: int
    sha256: str


class Segments:
    """The files of one replay buffer of a run.

    A file that a list refers to stays as it is until :meth:`remove_all_but` is called without that list. So a run can
    be killed at any moment, if it calls :meth:`write`, then writes the checkpoint, then calls :meth:`remove_all_but`.

    Args:
        folder: where the checkpoints are; the segments stand in a folder of their own in it.
        name: of the buffer; the names of the files begin with it.
        buffer: whose rows are kept.
    """

    def __init__(self, folder: Path, name: str, buffer: ReplayBuffer) -> None:
        self._folder = folder
        self._name = name
        self._buffer = buffer
        self._last: list[Segment] = []

    def write(self) -> list[Segment]:
        """Writes the rows that are in no segment yet.

        Returns:
            What a checkpoint must refer to, plain Python: the segments in which the rows of the buffer are, in their
            order.

        Raises:
            BbrlExpError: the disk refuses; the message names the file.
        """
        kept = self._buffer.kept_rows
        segments = [segment for segment in self._last if segment["stop"] > kept.start]
        first = segments[-1]["stop"] if segments else kept.start
        if first < kept.stop:
            row_bytes = sum(value.nbytes for value in self._buffer.read_rows(first, first + 1).values())
            if (
                segments
                and segments[-1]["first"] >= kept.start
                and (first - segments[-1]["first"]) * row_bytes < _SMALL
            ):
                first = segments.pop()["first"]
            n_rows = max(1, _LARGEST // row_bytes)
            for start in range(first, kept.stop, n_rows):
                segments.append(self._write(start, min(start + n_rows, kept.stop)))
        self._last = segments
        return list(segments)

    def load(self, segments: Sequence[Segment]) -> None:
        """Hands the buffer, of which ``load_state`` was called, its rows; :meth:`write` goes on after these.

        Raises:
            ConfigurationError: a segment is not there, or is damaged; the message names the file.
        """
        for segment in segments:
            self._buffer.load_rows(segment["first"], _rows(self._folder, segment))
        self._last = list(segments)

    def remove_all_but(self, segments: Iterable[Segment]) -> None:
        """Removes the buffer's other files, what a killed run left included."""
        used = {segment["file"] for segment in segments}
        own = re.compile(rf"\.?({re.escape(self._name)}_\d+_\d+\.pt)(\.sha256)?(\.part)?")
        folder = self._folder / _FOLDER_NAME
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            match = own.fullmatch(path.name)
            if match is not None and match[1] not in used:
                path.unlink()

    def _write(self, first: int, stop: int) -> Segment:
        file = f"{self._name}_{first}_{stop}.pt"
        path = self._folder / _FOLDER_NAME / file
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = write_checkpoint(path, self._buffer.read_rows(first, stop), {"first": first, "stop": stop})
        return {"file": file, "first": first, "stop": stop, "sha256": digest}


def check_segments(folder: Path, segments: Iterable[Segment]) -> None:
    """Reads what a checkpoint in ``folder`` refers to.

    Raises:
        ConfigurationError: a segment is not there, or is damaged; the message names the file.
    """
    for segment in segments:
        _rows(folder, segment)


def _rows(folder: Path, segment: Segment) -> dict[str, Tensor]:
    rows: dict[str, Tensor] = read_checkpoint(folder / _FOLDER_NAME / segment["file"], segment["sha256"])["state"]
    return rows
