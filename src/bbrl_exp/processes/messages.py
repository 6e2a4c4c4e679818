"""Messages between a process and its parent: short messages over a socket, bulk in memory that both map.

A message is one byte of kind, four of length and the content. The memory has no name: it goes when its last user goes.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile

DONE, ERROR, LEAVE, ALIVE, SETUP = b"K", b"E", b"Q", b"A", b"U"

_HEADER = struct.Struct("=cI")


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


def anonymous_file(name: str, n_bytes: int) -> int:
    """A file descriptor of ``n_bytes`` of memory without a name in the file system, all zeros."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, n_bytes)
    return descriptor


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        chunk = connection.recv(length - len(received))
        if not chunk:
            raise EOFError
        received += chunk
    return bytes(received)
