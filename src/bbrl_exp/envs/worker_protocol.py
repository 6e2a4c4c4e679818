"""What a worker and its parent tell each other: a few bytes a step over a socket, rows in shared memory.

A message is one byte of kind, four of length and the content. The memory has no name: it goes when its last user goes.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from bbrl_exp.envs.plan import BatchPlan

RESET, STEP, SEED, LEAVE = b"R", b"S", b"D", b"Q"
DONE, ERROR = b"K", b"E"

_HEADER = struct.Struct("=cI")
_ALIGNMENT = 64

Layout = tuple[tuple[tuple[int, ...], str], ...]


@dataclass(frozen=True, eq=False)
class WorkerSetup:
    """What a worker process is started with.

    Attributes:
        plan: the whole batch.
        first: index in the batch of the worker's first environment.
        count: number of its environments.
        spaces: the observation and the action space that the environments must have.
        n_actions: number of leaves of the action.
        layout: (shape, dtype) of the shared arrays: the time index, the actions, the rows.
    """

    plan: BatchPlan
    first: int
    count: int
    spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]]
    n_actions: int
    layout: Layout


def send(connection: socket.socket, kind: bytes, content: bytes = b"") -> None:
    """Sends one message.

    Raises:
        OSError: nobody is there any more.
    """
    connection.sendall(_HEADER.pack(kind, len(content)) + content)


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """Waits for one message, (kind, content).

    Raises:
        EOFError: the other side has gone.
    """
    kind, length = _HEADER.unpack(_exactly(connection, _HEADER.size))
    return kind, _exactly(connection, length) if length else b""


def shared_file(layout: Layout) -> int:
    """A file descriptor of anonymous memory for the arrays of ``layout``, all zeros."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("bbrl-env-rows")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _offsets(layout)[-1])
    return descriptor


def shared_arrays(descriptor: int, layout: Layout) -> list[NDArray[Any]]:
    """The arrays of ``layout`` in the memory of ``descriptor``, which may be closed afterwards."""
    offsets = _offsets(layout)
    memory = mmap.mmap(descriptor, offsets[-1])
    return [
        np.ndarray(shape, dtype, memory, offset) for (shape, dtype), offset in zip(layout, offsets[:-1], strict=True)
    ]


def _offsets(layout: Layout) -> Sequence[int]:
    offsets = [0]
    for shape, dtype in layout:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        offsets.append(offsets[-1] + -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT)
    return offsets


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = connection.recv(length)
    while len(received) < length:
        chunk = connection.recv(length - len(received))
        if not chunk:
            raise EOFError
        received += chunk
    return received
