"""The files in which W&B keeps what a session has recorded, online or offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

STEPS = "env_steps"
STEP = "_step"
_FILE_HEADER_LENGTH = 7
_BLOCK_LENGTH = 32 * 1024
_HEADER_LENGTH = 7
_FULL, _FIRST, _LAST = 1, 2, 4


class Row(NamedTuple):
    """A row of W&B's history: its number there, the environment step, and the names of its values."""

    number: int
    env_steps: int | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class SessionFile:
    """What W&B's own file of a session holds, online or offline.

    Attributes:
        project: where it belongs; empty where the file does not say.
        rows: of the history.
        summary: the values that were set last.
    """

    project: str
    rows: list[Row]
    summary: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, run_id: str) -> SessionFile:
        """The file in the folder of a session; empty if none exists."""
        project = ""
        rows: list[Row] = []
        summary: dict[str, Any] = {}
        known_names: dict[tuple[str, ...], tuple[str, ...]] = {}
        for path in folder.glob(f"run-{run_id}.wandb"):
            for record in records(path.read_bytes()):
                if record.HasField("history"):
                    items = record.history.item
                    texts = {_name(item): item.value_json for item in items}
                    names = tuple(texts)
                    env_steps = json.loads(texts[STEPS]) if STEPS in texts else None
                    rows.append(Row(json.loads(texts[STEP]), env_steps, known_names.setdefault(names, names)))
                elif record.HasField("run"):
                    project = record.run.project
                elif record.HasField("summary"):
                    summary |= {_name(item): json.loads(item.value_json) for item in record.summary.update}
        return cls(project, rows, summary)


def _name(item: Any) -> str:
    """The name of a value of a row or a summary; of a picture that of all its details."""
    name: str = item.key or item.nested_key[0]
    return name


def records(data: bytes) -> Iterator[Any]:
    """The records in the contents of a file, a log in the format of LevelDB, as far as they are whole.

    A header, then blocks of 32 KiB with pieces of records: checksum (4 bytes), length (2), kind (1), contents.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    position, pieces = _FILE_HEADER_LENGTH, b""
    while position + _HEADER_LENGTH <= len(data):
        left = _BLOCK_LENGTH - position % _BLOCK_LENGTH
        if left < _HEADER_LENGTH:
            position += left
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind, start = data[position + 6], position + _HEADER_LENGTH
        position = start + length
        if position > len(data) or not _FULL <= kind <= _LAST:
            return
        pieces = data[start:position] if kind in (_FULL, _FIRST) else pieces + data[start:position]
        if kind in (_FULL, _LAST):
            yield Record.FromString(pieces)
