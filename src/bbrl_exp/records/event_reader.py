"""Reads the scalars of TensorBoard event files, fast: records of one layout are decoded together.

It reads the files of `event_file` and those of other writers of ``simple_value`` scalars; events without are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        damage: what is wrong with the end of the file and where, None if it is whole; ``series`` has the rest.
    """

    series: dict[str, Series]
    damage: str | None


@dataclass
class _Points:
    steps: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[NDArray[np.float32]] = field(default_factory=list)


class _Layout(NamedTuple):
    """Where a payload keeps its wall time, its step and its scalars, counted from the payload's start."""

    time: slice
    step: slice
    tags: tuple[str, ...]
    value_offsets: tuple[int, ...]


def read_scalars(path: Path, *, verify: bool = False) -> EventScalars:
    """All scalars of the event file at ``path``.

    Args:
        path: an event file.
        verify: whether to check the payload of every record against its checksum (headers always are).
    """
    data = path.read_bytes()
    points: dict[str, _Points] = {}
    starts, lengths, damage = _records(data, verify)
    for layout, group in _groups(data, starts, lengths):
        steps = _varints(group[:, layout.step])
        for tag, offset in zip(layout.tags, layout.value_offsets, strict=True):
            values = np.ascontiguousarray(group[:, offset : offset + 4]).view("<f4").reshape(-1)
            of_tag = points.setdefault(tag, _Points())
            of_tag.steps.append(steps)
            of_tag.values.append(values)
    series = {tag: Series(np.concatenate(p.steps), np.concatenate(p.values)) for tag, p in points.items()}
    return EventScalars(series, damage)


def end_of_whole_records(data: bytes) -> int:
    """Where the last whole record ends; 0 where there is none."""
    starts, lengths, _ = _records(data, verify=False)
    return starts[-1] + lengths[-1] + FOOTER_LENGTH if starts else 0


def _records(data: bytes, verify: bool) -> tuple[list[int], list[int], str | None]:
    """Start and length of each payload, and what is wrong with the rest."""
    starts: list[int] = []
    lengths: list[int] = []
    known_headers: dict[bytes, int] = {}
    position, end = 0, len(data)
    while position < end:
        header = data[position : position + HEADER_LENGTH]
        length = known_headers.get(header)
        if length is None:
            if len(header) < HEADER_LENGTH:
                return starts, lengths, f"cut off in the header of a record at byte {position}"
            length, crc = struct.unpack("<QI", header)
            if masked_crc(header[:8]) != crc:
                return starts, lengths, f"wrong checksum of the length of the record at byte {position}"
            known_headers[header] = length
        start = position + HEADER_LENGTH
        position_after = start + length + FOOTER_LENGTH
        if position_after > end:
            return starts, lengths, f"cut off in the record at byte {position}"
        if verify:
            footer = data[start + length : position_after]
            if struct.pack("<I", masked_crc(data[start : start + length])) != footer:
                return starts, lengths, f"wrong checksum of the record at byte {position}"
        starts.append(start)
        lengths.append(length)
        position = position_after
    return starts, lengths, None


def _groups(data: bytes, starts: list[int], lengths: list[int]) -> Iterator[tuple[_Layout, NDArray[np.uint8]]]:
    """Runs of neighbouring payloads with one layout, ``[N, length]``, in order; those without scalars are left out."""
    all_bytes = np.frombuffer(data, dtype=np.uint8)
    changes = np.flatnonzero(np.diff(lengths)) + 1 if lengths else np.empty(0, dtype=np.int64)
    for first, last in zip([0, *changes.tolist()], [*changes.tolist(), len(lengths)], strict=True):
        if first == last:
            continue
        length, stride = lengths[first], lengths[first] + HEADER_LENGTH + FOOTER_LENGTH
        begin = starts[first]
        records = np.lib.stride_tricks.as_strided(
            all_bytes[begin:], shape=(last - first, length), strides=(stride, 1), writeable=False
        )
        while len(records):
            layout = _parse(records[0].tobytes())
            alike = _n_alike(records, layout)
            if layout is not None and layout.tags:
                yield layout, records[:alike]
            records = records[alike:]


def _n_alike(records: NDArray[np.uint8], layout: _Layout | None) -> int:
    """How many of the first records differ from the very first in nothing but time, step and values."""
    if layout is None:
        return 1
    compared = np.full(records.shape[1], 0xFF, dtype=np.uint8)
    compared[layout.time] = 0
    compared[layout.step] = 0x80
    for offset in layout.value_offsets:
        compared[offset : offset + 4] = 0
    block = 1024
    for first in range(0, len(records), block):
        differs = (((records[first : first + block] ^ records[0]) & compared) != 0).any(axis=1)
        if differs.any():
            return first + int(differs.argmax())
    return len(records)


def _parse(payload: bytes) -> _Layout | None:
    """The layout of an event, None where the bytes are none."""
    try:
        time = step = slice(0, 0)
        tags: list[str] = []
        value_offsets: list[int] = []
        for number, start, end in _fields(payload, 0, len(payload)):
            if number == 1:
                time = slice(start, end)
            elif number == 2:
                step = slice(start, end)
            elif number == 5:
                for value_number, value_start, value_end in _fields(payload, start, end):
                    if value_number == 1:
                        parts = {n: (a, b) for n, a, b in _fields(payload, value_start, value_end)}
                        if 1 in parts and 2 in parts:
                            tags.append(payload[slice(*parts[1])].decode())
                            value_offsets.append(parts[2][0])
    except (IndexError, UnicodeDecodeError):
        return None
    return _Layout(time, step, tuple(tags), tuple(value_offsets))


def _fields(payload: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of the content of each field of a message; IndexError where the bytes are none."""
    while position < end:
        key, position = _varint(payload, position)
        wire_type = key & 7
        start = position
        if wire_type == 0:
            _, position = _varint(payload, position)
        elif wire_type == 2:
            length, start = _varint(payload, position)
            position = start + length
        elif wire_type in (1, 5):
            position += 8 if wire_type == 1 else 4
        else:
            raise IndexError
        if position > end:
            raise IndexError
        yield key >> 3, start, position


def _varint(payload: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = payload[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7


def _varints(groups: NDArray[np.uint8]) -> NDArray[np.int64]:
    """``[N]`` numbers from ``[N, width]`` bytes; an absent step (width 0) is 0."""
    shifts = 7 * np.arange(groups.shape[1])
    return np.asarray(((groups & 0x7F).astype(np.int64) << shifts).sum(axis=1), dtype=np.int64)
