"""The TensorBoard file of one run: scalars of whole chunks, and single summaries, appended and flushed at once.

A record is ``length (uint64), masked crc32c of the length, payload, masked crc32c of the payload``, little-endian; the
payload is a serialized ``Event`` protobuf. Steps that are recorded one after the other have events of the same layout,
so one serialized template is repeated, and times, steps and values are put into their places for all of them at once.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from bbrl_exp.errors import BbrlExpError
from bbrl_exp.records.files import AppendOnlyFile
from bbrl_exp.records.layout import EVENTS

HEADER_LENGTH = 12
FOOTER_LENGTH = 4
STEP_WIDTH = 6
MAX_STEP = 2 ** (7 * STEP_WIDTH) - 1
_MASK_DELTA = 0xA282EAD8
_PICTURES = (b"\x89PNG", b"GIF8")


class EventFile(AppendOnlyFile):
    """``events.out.tfevents.<seconds>.<process>`` directly in ``folder``.

    Args:
        folder: the run's folder; it must exist.
        continued: None for a new file; else the name of an existing one, and where to continue it.

    Raises:
        BbrlExpError: if the file cannot be made or written, naming it, or if ``continued`` leads to no event file.
    """

    def __init__(self, folder: Path, continued: tuple[str, int] | None = None) -> None:
        self._encoders: dict[tuple[str, ...], ScalarRecords] = {}
        if continued is not None:
            name, position = continued
            if Path(name).name != name or not name.startswith(EVENTS):
                raise BbrlExpError(f"cannot continue '{name}': not the name of an event file")
            super().__init__(folder / name, position)
            return
        seconds = time.time()
        path = folder / f"{EVENTS}{int(seconds):010d}.{os.getpid()}"
        while path.exists():  # of another logger in this folder, made within this second
            path = path.with_name(f"{path.name}.again")
        super().__init__(path)
        self.event(Event(wall_time=seconds, file_version="brain.Event:2"))

    def scalars(self, tags: Sequence[str], steps: NDArray[np.int64], values: NDArray[np.floating]) -> None:
        """Append N events with one float32 for each of S tags: ``steps`` are ``[N]``, ``values`` ``[S, N]``."""
        if len(tags) and len(steps):
            self.write(self._encoder(tags).encode(time.time(), steps, values))

    def summary(self, step: int, summary: Summary) -> None:
        """Append one event that holds ``summary``: a histogram, a text, a picture."""
        self.event(Event(wall_time=time.time(), step=step, summary=summary))

    def event(self, event: Event) -> None:
        """Append one event."""
        self.write(framed(event.SerializeToString()))

    def holds(self, tag: str) -> bool:
        """Whether a value with this tag is in the file."""
        return tag.encode() in self.path.read_bytes()

    def record_length(self, tags: Sequence[str]) -> int:
        """Bytes that one event with these tags takes in the file."""
        return self._encoder(tags).record_length

    def _encoder(self, tags: Sequence[str]) -> ScalarRecords:
        key = tuple(tags)
        if key not in self._encoders:
            self._encoders[key] = ScalarRecords(key)
        return self._encoders[key]


def masked_crc(data: bytes) -> int:
    """The crc32c of ``data`` as TFRecord files store it: rotated right by 15 bits, plus a constant."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def framed(payload: bytes) -> bytes:
    """One record around ``payload``."""
    return _header(len(payload)) + payload + struct.pack("<I", masked_crc(payload))


def whole_length(data: bytes) -> int:
    """Where the last whole record of an event file ends."""
    position = 0
    while len(data) >= position + HEADER_LENGTH:
        length, crc = struct.unpack_from("<QI", data, position)
        end = position + HEADER_LENGTH + length + FOOTER_LENGTH
        if masked_crc(data[position : position + 8]) != crc or end > len(data):
            break
        position = end
    return position


class ScalarRecords:
    """Encodes events that all hold one value for each of the same tags.

    A step is in the event as a varint of fixed width (padded with empty groups of seven bits, which every protobuf
    parser reads), so that all records are of one length.

    Args:
        tags: the S names of the values.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        values = bytearray()
        value_ends: list[int] = []
        for tag in tags:
            encoded_tag = tag.encode()
            value = b"\x0a" + _varint(len(encoded_tag)) + encoded_tag + b"\x15" + bytes(4)
            values += b"\x0a" + _varint(len(value)) + value
            value_ends.append(len(values))
        # Event: wall_time (field 1, double), step (field 2, varint), summary (field 5, message).
        start = b"\x09" + bytes(8) + b"\x10" + bytes(STEP_WIDTH) + b"\x2a" + _varint(len(values))
        payload = start + bytes(values)
        self.record_length = HEADER_LENGTH + len(payload) + FOOTER_LENGTH
        self._template = np.frombuffer(_header(len(payload)) + payload + bytes(FOOTER_LENGTH), dtype=np.uint8)
        self._value_names = [f"value{index}" for index in range(len(tags))]
        value_offsets = [HEADER_LENGTH + len(start) + end - 4 for end in value_ends]
        step_offset = HEADER_LENGTH + 1 + 8 + 1
        self._layout = np.dtype(
            {
                "names": ["wall_time", "step", *self._value_names, "crc"],
                "formats": ["<f8", (np.uint8, (STEP_WIDTH,)), *["<f4"] * len(tags), "<u4"],
                "offsets": [HEADER_LENGTH + 1, step_offset, *value_offsets, self.record_length - FOOTER_LENGTH],
                "itemsize": self.record_length,
            }
        )
        self._make_room(0)

    def encode(self, wall_time: float, steps: NDArray[np.int64], values: NDArray[np.floating]) -> memoryview:
        """The records of N events, one after the other, in memory that the next call overwrites.

        Args:
            wall_time: seconds since the epoch, the same for all N.
            steps: ``[N]``, each from 0 to `MAX_STEP`.
            values: ``[S, N]``, one row a tag, kept as float32.
        """
        n = len(steps)
        if n and not 0 <= int(steps.min()) <= int(steps.max()) <= MAX_STEP:
            raise ValueError(f"steps must be from 0 to {MAX_STEP}, got {steps.min()} to {steps.max()}")
        if n > len(self._records):
            self._make_room(n)
        self._wall_times[:n] = wall_time
        self._steps[:n] = _padded_varints(steps)
        with np.errstate(over="ignore"):  # beyond float32 a value is infinite
            for column, series in zip(self._value_columns, values, strict=True):
                column[:n] = series
        payloads = self._records[:n, HEADER_LENGTH:-FOOTER_LENGTH]
        # google_crc32c takes a numpy row as it is: a copy to bytes would double the cost of the checksums.
        crcs = np.fromiter(map(google_crc32c.value, payloads), dtype=np.uint32, count=n)
        self._crcs[:n] = ((crcs >> np.uint32(15)) | (crcs << np.uint32(17))) + np.uint32(_MASK_DELTA)
        return self._records[:n].data.cast("B") if n else memoryview(b"")

    def _make_room(self, n: int) -> None:
        """Lay out ``n`` records with all that never changes, and the views of what does."""
        self._records = np.empty((n, self.record_length), dtype=np.uint8)
        self._records[:] = self._template
        fields = self._records.reshape(-1).view(self._layout)
        self._wall_times, self._steps, self._crcs = fields["wall_time"], fields["step"], fields["crc"]
        self._value_columns = [fields[name] for name in self._value_names]


def _header(payload_length: int) -> bytes:
    length = struct.pack("<Q", payload_length)
    return length + struct.pack("<I", masked_crc(length))


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _padded_varints(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """``[N, STEP_WIDTH]``: seven bits a byte, lowest first, the top bit set in all bytes but the last."""
    groups = (numbers[:, None] >> (7 * np.arange(STEP_WIDTH))) & 0x7F
    groups[:, :-1] |= 0x80
    return groups.astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """A picture in an event file: a PNG or GIF file, its tag, and its width and height in pixels."""

    env_steps: int
    name: str
    data: bytes
    size: tuple[int, int]


def read_pictures(path: Path) -> Iterator[Picture]:
    """The pictures of an event file, which may still be written, in their order; none where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return
    position, end = 0, whole_length(data)
    while position < end:
        (length,) = struct.unpack_from("<Q", data, position)
        payload = data[position + HEADER_LENGTH : position + HEADER_LENGTH + length]
        position += HEADER_LENGTH + length + FOOTER_LENGTH
        if not any(signature in payload for signature in _PICTURES):
            continue
        event = Event.FromString(payload)
        for value in event.summary.value:
            if value.HasField("image"):
                size = value.image.width, value.image.height
                yield Picture(event.step, value.tag, value.image.encoded_image_string, size)
