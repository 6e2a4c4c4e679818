"""Anonymous shared memory into which one side packs tensors that the other side reads."""

from __future__ import annotations

import mmap
import os

import torch
from torch import Tensor

from bbrl_exp.processes.messages import anonymous_file

_HEADER_BYTES = 64
_ALIGNMENT = 64
_FIRST_BYTES = 1 << 16

Piece = tuple[int, torch.Size, torch.dtype]


class Arena:
    """Memory that one side writes anew for every message and the other side reads before the next one.

    It grows as needed. Its first bytes hold a counter of the writer's.

    Args:
        descriptor: the file, which this object closes; None for a new one.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = anonymous_file("bbrl-agent-rows", _FIRST_BYTES) if descriptor is None else descriptor
        os.set_inheritable(self.descriptor, False)
        self._counter = memoryview(mmap.mmap(self.descriptor, _HEADER_BYTES)).cast("Q")
        self._map()
        self._end = _HEADER_BYTES

    @property
    def counter(self) -> int:
        """A number that both sides see."""
        return self._counter[0]

    @counter.setter
    def counter(self, value: int) -> None:
        self._counter[0] = value

    def begin(self) -> None:
        """Begins a new message: what was put before may be overwritten."""
        self._end = _HEADER_BYTES

    def put(self, value: Tensor) -> Piece:
        """Copies a tensor into the memory, and says where it is."""
        start = self._end
        stop = start + value.nbytes
        self._end = -(-stop // _ALIGNMENT) * _ALIGNMENT
        if stop > len(self._memory):
            os.ftruncate(self.descriptor, max(stop, 2 * len(self._memory)))
            self._map()
        piece = (start, value.shape, value.dtype)
        self.get(piece).copy_(value.detach())
        return piece

    def get(self, piece: Piece) -> Tensor:
        """The memory of a piece; it changes with the next message."""
        offset, shape, dtype = piece
        count = shape.numel()
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        if offset + count * dtype.itemsize > len(self._memory):
            self._map()
        with torch.inference_mode(False):
            return torch.frombuffer(self._memory, dtype=dtype, count=count, offset=offset).view(shape)

    def close(self) -> None:
        """Closes the file; the memory goes with the last tensor that lies in it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _map(self) -> None:
        self._memory = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
