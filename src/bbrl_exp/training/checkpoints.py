"""The checkpoints of a run in its folder: when they are due, how many are kept, which is the newest whole one.

A row of a replay buffer never changes, so it is written once, to a file to which checkpoints refer: a checkpoint costs
the rows that are new since the one before. Its files hold all rows of the buffer, and perhaps older ones before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor

from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.records.layout import CHECKPOINTS, REPLAY
from bbrl_exp.training.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint

_NAME = re.compile(r"step_(\d+)\.pt")
_SUM_NAME = re.compile(r"step_\d+\.pt\.sha256")
_SEGMENTS = "segments"
# Bytes. A smaller segment is written again together with the rows after it, which bounds the number of files.
_SMALL = 1 << 20
# Bytes. As much is in memory twice while a segment is written.
_LARGEST = 1 << 26


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint that was read.

    Attributes:
        path: its file.
        state: bitwise identical between equal runs.
        meta: what differs between them.
    """

    path: Path
    state: dict[str, Any]
    meta: dict[str, Any]


class Checkpoints:
    """Writes ``checkpoints/step_<environment steps>.pt``.

    Args:
        run_folder: of the run.
        every: environment steps between two of them, 0 for none at all.
        keep: how many of the newest are kept.
        buffers: replay buffers by name; their rows are in separate files, each written once.
        steps_per_recording: environment steps between two cuts of the recording, which is where they are written.
    """

    def __init__(
        self, run_folder: Path, every: int, keep: int, buffers: Mapping[str, ReplayBuffer], steps_per_recording: int
    ) -> None:
        self._folder = run_folder / CHECKPOINTS
        self._every = every
        self._keep = keep
        self._segments = {name: Segments(self._folder, name, buffer) for name, buffer in buffers.items()}
        self._steps_per_recording = steps_per_recording
        self._needed: dict[Path, Mapping[str, list[Segment]]] = {}  # of the checkpoints that are known to be whole

    def is_due(self, env_steps: int) -> bool:
        """Whether one of those that come regularly is due where the recording is cut after ``env_steps``.

        This depends on nothing else, so that a resumed run writes the same ones.
        """
        before = env_steps - self._steps_per_recording
        return self._every > 0 and env_steps // self._every > before // self._every

    def write(self, env_steps: int, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Writes one, and removes those that are not among the newest any more; none if none are kept.

        Raises:
            BbrlExpError: the disk refuses; those that were there are still whole.
        """
        if self._every == 0:
            return
        segments = {name: own.write() for name, own in self._segments.items()}
        path = self._folder / f"step_{env_steps}.pt"
        write_checkpoint(path, dict(state), {**meta, _SEGMENTS: segments})
        self._needed[path] = segments
        self._prune(env_steps)

    def load_rows(self, checkpoint: Checkpoint) -> None:
        """Fills the replay buffers, whose states have been loaded.

        Raises:
            ConfigurationError: a file with rows is missing or damaged; the message names it.
        """
        for name, own in self._segments.items():
            own.load(checkpoint.meta[_SEGMENTS][name])

    def _prune(self, env_steps: int) -> None:
        """Removes what the newest ones, up to ``env_steps``, do not need; later ones are of a future that is redone."""
        kept: list[Path] = []
        for number, path in _numbered(self._folder):
            if number > env_steps:
                continue
            if len(kept) < self._keep and self._is_whole(path):
                kept.append(path)
            else:
                remove_checkpoint(path)
                self._needed.pop(path, None)
        for path in self._folder.iterdir():  # what a killed run left
            if _SUM_NAME.fullmatch(path.name) and not path.with_suffix("").exists():
                path.unlink()
        for name, own in self._segments.items():
            own.remove_all_but([needed for path in kept for needed in self._needed[path][name]])

    def _is_whole(self, path: Path) -> bool:
        if path not in self._needed:
            try:
                self._needed[path] = _whole_checkpoint(path).meta[_SEGMENTS]
            except BbrlExpError:
                return False
        return True


def newest_checkpoint(run_folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint of a run, and what is wrong with those after it.

    Returns:
        None where there never was a checkpoint.

    Raises:
        ConfigurationError: there are checkpoints, and none is whole.
    """
    complaints: list[str] = []
    for _, path in _numbered(run_folder / CHECKPOINTS):
        try:
            return _whole_checkpoint(path), complaints
        except BbrlExpError as error:
            complaints.append(str(error))
    if complaints:
        raise ConfigurationError(f"no checkpoint in {run_folder / CHECKPOINTS} is whole: {'; '.join(complaints)}")
    return None, []


def _whole_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint, and the replay rows that it needs.

    Raises:
        ConfigurationError: a file is missing or damaged; the message names it.
    """
    found = read_checkpoint(path)
    for segments in found["meta"].get(_SEGMENTS, {}).values():
        for segment in segments:
            read_segment(path.parent, segment)
    return Checkpoint(path, found["state"], found["meta"])


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """The files of the checkpoints in ``folder`` with their environment steps, the newest first."""
    if not folder.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted(((int(match[1]), path) for match, path in found if match is not None), reverse=True)


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
        """Hands the buffer, of which ``load_state`` was called, its rows; :meth:`write` continues after these.

        Raises:
            ConfigurationError: a segment is not there, or is damaged; the message names the file.
        """
        for segment in segments:
            self._buffer.load_rows(segment["first"], read_segment(self._folder, segment))
        self._last = list(segments)

    def remove_all_but(self, segments: Iterable[Segment]) -> None:
        """Removes the buffer's other files, what a killed run left included."""
        used = {segment["file"] for segment in segments}
        own = re.compile(rf"({re.escape(self._name)}_\d+_\d+\.pt)(\.sha256)?")
        folder = self._folder / REPLAY
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            match = own.fullmatch(path.name)
            if match is not None and match[1] not in used:
                path.unlink()

    def _write(self, first: int, stop: int) -> Segment:
        file = f"{self._name}_{first}_{stop}.pt"
        path = self._folder / REPLAY / file
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = write_checkpoint(path, self._buffer.read_rows(first, stop), {"first": first, "stop": stop})
        return {"file": file, "first": first, "stop": stop, "sha256": digest}


def read_segment(folder: Path, segment: Segment) -> dict[str, Tensor]:
    """The rows in a file to which a checkpoint in ``folder`` refers.

    Raises:
        ConfigurationError: it is not there, or is damaged; the message names the file.
    """
    rows: dict[str, Tensor] = read_checkpoint(folder / REPLAY / segment["file"], segment["sha256"])["state"]
    return rows
