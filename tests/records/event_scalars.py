"""Reads the scalars of event files, those of `EventFile` and of other writers, up to where they are damaged."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event

from bbrl_exp.records.event_file import FOOTER_LENGTH, HEADER_LENGTH, masked_crc


class Series(NamedTuple):
    """One tag's points in the order in which they were written: steps ``[N]`` and values ``[N]``."""

    steps: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class EventScalars:
    """The scalars of one file.

    Attributes:
        series: tag → its points.
        damage: what is wrong with the file and where, None if it is whole; ``series`` has what comes before.
    """

    series: dict[str, Series]
    damage: str | None


def read_scalars(path: Path) -> EventScalars:
    """All scalars of the event file at ``path``; every record is compared with its checksum."""
    data = path.read_bytes()
    points: dict[str, list[tuple[int, float]]] = {}
    records, damage = _whole_records(data)
    for record in records:
        if struct.pack("<I", masked_crc(data[record])) != data[record.stop : record.stop + FOOTER_LENGTH]:
            damage = f"wrong checksum of the record at byte {record.start - HEADER_LENGTH}"
            break
        event = Event.FromString(data[record])
        for value in event.summary.value:
            if value.HasField("simple_value"):
                points.setdefault(value.tag, []).append((event.step, value.simple_value))
    series = {}
    for tag, of in points.items():
        steps, values = zip(*of, strict=True)
        series[tag] = Series(np.array(steps, np.int64), np.array(values, np.float32))
    return EventScalars(series, damage)


def _whole_records(data: bytes) -> tuple[list[slice], str | None]:
    """Where the payloads of an event file are that are whole, and what is wrong with the rest."""
    found: list[slice] = []
    position = 0
    while position < len(data):
        header = data[position : position + HEADER_LENGTH]
        if len(header) < HEADER_LENGTH:
            return found, f"cut off in the header of a record at byte {position}"
        length, crc = struct.unpack("<QI", header)
        if masked_crc(header[:8]) != crc:
            return found, f"wrong checksum of the length of the record at byte {position}"
        start = position + HEADER_LENGTH
        position_after = start + length + FOOTER_LENGTH
        if position_after > len(data):
            return found, f"cut off in the record at byte {position}"
        found.append(slice(start, start + length))
        position = position_after
    return found, None
