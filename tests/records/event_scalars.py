"""Reads the scalars of event files, those of `EventFile` and of other writers, up to where they are damaged."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event

from bbrl_exp.records.event_file import FOOTER_LENGTH, HEADER_LENGTH, masked_crc, whole_records


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
    records, damage = whole_records(data)
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
